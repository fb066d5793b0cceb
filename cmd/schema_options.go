package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/event/schema"
	"github.com/evdemo/evdemo/examples"
	"github.com/evdemo/evdemo/worker"
)

// builtinSchemas is the name of the schemas that the program has in itself.
const builtinSchemas = "builtin"

var errEmptySchema = errors.New("--schema is empty: want a directory with schemas, or builtin")

// loadSchemas loads the schemas of a directory, or those that the program has in itself.
func loadSchemas(dir string) (*schema.Registry, error) {
	var files fs.FS
	if dir == builtinSchemas {
		files = examples.Schemas()
	} else {
		if info, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("--schema: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("--schema %s: want a directory with files named TYPE.vN.json", dir)
		}
		files = os.DirFS(dir)
	}
	registry, err := schema.Load(files)
	if err != nil {
		return nil, fmt.Errorf("--schema %s: %w", dir, err)
	}
	return registry, nil
}

// schemaOptions are the flags of commands that check events.
type schemaOptions struct {
	schemas    string
	noValidate bool

	registry *schema.Registry // nil where nothing is checked
}

func (o *schemaOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.schemas, "schema", "", "check data by the schemas in this directory (TYPE.vN.json), or by those that are builtin")
	flags.BoolVar(&o.noValidate, "no-validate", false, "check nothing, whatever --schema says")
}

// load loads the schemas; nil where nothing is to be checked.
func (o *schemaOptions) load() (*schema.Registry, error) {
	if o.schemas == "" || o.noValidate {
		return nil, nil //nolint:nilnil // nothing is to be checked
	}
	return loadSchemas(o.schemas)
}

// validate checks an event whose type is known.
func (o *schemaOptions) validate(e event.Event) error {
	if o.registry == nil {
		return nil
	}
	if err := o.registry.Check(e); !errors.Is(err, schema.ErrUnknownType) {
		return err
	}
	return nil
}

// readOptions are the flags of commands that handle events.
type readOptions struct {
	schemaOptions

	versions []string
	wanted   map[string]int // from versions
}

func (o *readOptions) addFlags(flags *pflag.FlagSet) {
	o.schemaOptions.addFlags(flags)
	flags.StringArrayVar(&o.versions, "schema-version", nil, "TYPE=N: version of the data that the handler understands; may be repeated")
}

func (o *readOptions) check() error {
	o.wanted = map[string]int{}
	for _, text := range o.versions {
		at := strings.LastIndexByte(text, '=')
		if at <= 0 {
			return fmt.Errorf("--schema-version %.60q: want TYPE=N, such as order.created=2", text)
		}
		n, err := parseVersion(text[at+1:])
		if err != nil {
			return fmt.Errorf("--schema-version %.60q: %w", text, err)
		}
		if before, twice := o.wanted[text[:at]]; twice && before != n {
			return fmt.Errorf("--schema-version names two versions of %.60q", text[:at])
		}
		o.wanted[text[:at]] = n
	}
	if len(o.wanted) > 0 && o.schemas == "" {
		return errors.New("--schema-version goes with --schema")
	}
	return nil
}

// reader is what a handler gets events from; nil where they come as they are. An older version that readers
// of the next one can read goes for that one.
func (o *readOptions) reader() (worker.EventReader, error) {
	registry, err := o.load()
	if err != nil || registry == nil {
		return nil, err
	}
	var upcasters []schema.Upcaster
	for _, eventType := range slices.Sorted(maps.Keys(o.wanted)) {
		for _, from := range registry.Versions(eventType) {
			if diff, err := registry.Diff(eventType, from, from+1); err == nil && diff.Compatibility.Satisfies(schema.Backward) {
				upcasters = append(upcasters, schema.Upcaster{Type: eventType, From: from, Upcast: func(data []byte) ([]byte, error) { return data, nil }})
			}
		}
	}
	reader, err := registry.Reader(o.wanted, upcasters...)
	if err != nil {
		return nil, fmt.Errorf("--schema-version: %w", err)
	}
	return reader, nil
}
