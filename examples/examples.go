// Package examples holds the sample data of the suite.
package examples

import _ "embed" // for the sample data

// Orders is orders.jsonl: 2,000 order.created events, one CloudEvent in JSON per line.
//
//go:embed orders.jsonl
var Orders []byte
