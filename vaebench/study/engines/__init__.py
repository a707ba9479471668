"""What carries out the stages of a study: ``serial`` in this process, ``local`` side by side, ``ray`` on a cluster.

An engine takes jobs and gives back outcomes; which job may start when is the business of `vaebench.study.engine`.
"""
