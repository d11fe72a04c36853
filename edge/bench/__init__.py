"""What listening costs on this device: ``edgelid bench``.

May import anything of `edge` but `service` and `cli`, which it runs as a program.
"""
