/* Counts the instructions that a program executes under qemu, by place and by region.

   A region is begun by a system call whose second argument is MAGIC plus its number: by
   lseek(fd, MAGIC + region, SEEK_SET) of /dev/null, which does nothing. That has no effect before
   MAGIC + START nor after MAGIC + STOP: all of that is region 0, which nobody asks for.

   At the program's end there is a line for every block of code and every region that it was
   executed in: the region, the block's address, and the instructions executed there. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Of qemu's plugin interface, for which Debian has no header. */
typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
extern void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *, void (*)(unsigned, void *), enum qemu_plugin_cb_flags, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(
    qemu_plugin_id_t, void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                               uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
extern void qemu_plugin_register_atexit_cb(
    qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

#define EXPORT __attribute__((visibility("default")))
#define MAGIC 0x4d410000u
#define REGIONS 16
#define START 16
#define STOP 17

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

struct block {
    struct block *next;
    uint64_t address, instructions, executions[REGIONS];
};

static struct block *blocks;
static bool counting;
static unsigned region;
static FILE *output;

static void executed(unsigned vcpu, void *block)
{
    ((struct block *)block)->executions[region]++;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *code)
{
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        abort();
    block->address = qemu_plugin_tb_vaddr(code);
    block->instructions = qemu_plugin_tb_n_insns(code);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(code, executed, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void called(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2,
                   uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    if (a2 == MAGIC + START || a2 == MAGIC + STOP) {
        counting = a2 == MAGIC + START;
        region = 0;
    } else if (counting && a2 - MAGIC < REGIONS) {
        region = a2 - MAGIC;
    }
}

static void ended(qemu_plugin_id_t id, void *unused)
{
    for (struct block *block = blocks; block; block = block->next)
        for (unsigned r = 1; r < REGIONS; r++)
            if (block->executions[r])
                fprintf(output, "%u %" PRIx64 " %" PRIu64 "\n", r, block->address,
                        block->executions[r] * block->instructions);
    fclose(output);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    if (argc != 1 || !(output = fopen(argv[0] + sizeof "output=" - 1, "w")))
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
