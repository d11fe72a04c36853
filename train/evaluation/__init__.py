"""How good a model is: metrics, conditions, long streams, open set, reports, yardsticks.

May import anything of `train` but `synthesis` and `cli`.
"""
