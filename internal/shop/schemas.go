package shop

import (
	"embed"
	"io/fs"

	"github.com/evdemo/evdemo/event/schema"
)

//go:embed schemas/*.json
var schemas embed.FS

// Schemas has a JSON Schema, with an example, of every event and command.
func Schemas() (*schema.Registry, error) {
	dir, err := fs.Sub(schemas, "schemas")
	if err != nil {
		return nil, err
	}
	return schema.Load(dir)
}
