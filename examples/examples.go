// Package examples holds the sample data of the suite.
package examples

import (
	"embed"
	"io/fs"
)

// Orders is orders.jsonl: 2,000 order.created events, one CloudEvent in JSON per line.
//
//go:embed orders.jsonl
var Orders []byte

//go:embed schemas
var schemas embed.FS

// Schemas are the schemas of the sample data: order.created in version 1, which is that of [Orders], in
// version 2 with one more member that may be absent, and in version 3, which breaks with both.
func Schemas() fs.FS {
	dir, err := fs.Sub(schemas, "schemas")
	if err != nil {
		panic(err) // its name is no path, which it is
	}
	return dir
}
