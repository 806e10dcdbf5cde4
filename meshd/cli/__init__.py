"""meshctl: one module per noun. Data on stdout, everything else on stderr.

main       the command group and how errors become exit codes
target     which meshd to ask, and asking it
output     table, JSON or YAML
status services documents explain cert proxy token ca    the nouns
waiting    `apply --wait`: until every joined host reports the document in force
"""
