# SPDX-License-Identifier: GPL-2.0
# Puts the rows of two runs side by side: awk -f table.awk C.log RUST.log
BEGIN {
	OFS = "\t"
	print "operation", "unit", "c", "rust", "ratio"
}
$1 != "row" { next }
FNR == NR { c[$2] = $4; next }
{ print $2, $3, c[$2], $4, (c[$2] > 0) ? sprintf("%.3f", $4 / c[$2]) : "-" }
