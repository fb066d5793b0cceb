package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Registry has the schemas of event types by version.
type Registry struct {
	types map[string]map[int]*version
}

// version is one version of an event type.
type version struct {
	document []byte
	schema   *jsonschema.Schema
	quick    *jsonschema.Schema // the same, for data that adheres to it: see quicken
}

// fileName is TYPE.vVERSION.json, and almost what was meant to be one.
var (
	fileName = regexp.MustCompile(`^(.+)\.v([1-9][0-9]{0,8})\.json$`)
	almost   = regexp.MustCompile(`\.v-?[0-9]+\.json$`)
)

// Load reads the schemas of a directory: each file TYPE.vN.json is version N of the type. Its other .json
// files are there for $ref, which leads to files of the directory and nowhere else. What is no .json file
// is not read, and neither are directories in it.
//
// The error names every fault of every file.
func Load(dir fs.FS) (*Registry, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("read schemas: %w", err)
	}
	r := &Registry{types: map[string]map[int]*version{}}
	compiler, again := newCompiler(dir), newCompiler(dir)
	var errs []error
	for _, entry := range entries {
		match := fileName.FindStringSubmatch(entry.Name())
		if match == nil && almost.MatchString(entry.Name()) {
			errs = append(errs, fmt.Errorf("%s: want TYPE.vN.json with a version from 1 up", entry.Name()))
		}
		if match == nil || entry.IsDir() {
			continue
		}
		v, err := compile(compiler, dir, entry.Name())
		if err == nil {
			v.quick, err = again.Compile(location(entry.Name()))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", entry.Name(), err))
			continue
		}
		number, _ := strconv.Atoi(match[2]) // of nine digits at most
		r.put(match[1], number, v)
		quicken(v.quick, v.document)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if len(r.types) == 0 {
		return nil, errors.New("no schemas: want files named TYPE.vN.json, such as order.created.v1.json")
	}
	return r, nil
}

func (r *Registry) put(eventType string, number int, v *version) {
	if r.types[eventType] == nil {
		r.types[eventType] = map[int]*version{}
	}
	r.types[eventType][number] = v
}

func newCompiler(dir fs.FS) *jsonschema.Compiler {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiler.UseLoader(loader{dir})
	return compiler
}

func location(name string) string { return base + url.PathEscape(name) }

func compile(compiler *jsonschema.Compiler, dir fs.FS, name string) (*version, error) {
	document, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	compiled, err := compiler.Compile(location(name))
	if err != nil {
		return nil, explain(err)
	}
	return &version{document: document, schema: compiled}, nil
}

// explain takes what the compiler says apart from what it is in: the location of a schema means nothing
// to people.
func explain(err error) error {
	if invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if violation, ok := errors.AsType[*jsonschema.ValidationError](invalid.Err); ok {
			return fmt.Errorf("is no JSON Schema: %v", violations(violation))
		}
		return fmt.Errorf("is no JSON Schema: %w", invalid.Err)
	}
	if load, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return load.Err
	}
	return err
}

// maxFile bounds a file: whatever is larger is no schema.
const maxFile = 4 << 20

func readFile(dir fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(dir, name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("is no regular file")
	case info.Size() > maxFile:
		return nil, fmt.Errorf("has %d bytes; a schema has %d at most", info.Size(), maxFile)
	}
	return fs.ReadFile(dir, name)
}

// base is where the directory lies, as far as references are concerned.
const base = "schemas:///"

// loader loads what schemas refer to.
type loader struct{ dir fs.FS }

// Load gives a file of the directory.
func (l loader) Load(location string) (any, error) {
	escaped, ok := strings.CutPrefix(location, base)
	name, err := url.PathUnescape(escaped)
	if !ok || err != nil || path.Clean(name) != name || strings.Contains(name, "/") {
		return nil, fmt.Errorf("$ref leads to %s, which is not in the directory", location)
	}
	content, err := readFile(l.dir, name)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("is no JSON: %w", err)
	}
	return document, nil
}

// Types are the event types that have a schema, sorted.
func (r *Registry) Types() []string { return slices.Sorted(maps.Keys(r.types)) }

// Versions are the versions of a type that have a schema, sorted; none for a type that is not known.
func (r *Registry) Versions(eventType string) []int {
	return slices.Sorted(maps.Keys(r.types[eventType]))
}

// Document is the schema as it was read. The error wraps [ErrUnknownType], or is a *[VersionError].
func (r *Registry) Document(eventType string, number int) ([]byte, error) {
	v, err := r.version(eventType, number)
	if err != nil {
		return nil, err
	}
	return slices.Clone(v.document), nil
}

func (r *Registry) version(eventType string, number int) (*version, error) {
	versions, ok := r.types[eventType]
	if !ok {
		return nil, fmt.Errorf("%s: %w", eventType, ErrUnknownType)
	}
	v, ok := versions[number]
	if !ok {
		return nil, &VersionError{eventType, strconv.Itoa(number), "no schema has this version; there are " + list(r.Versions(eventType))}
	}
	return v, nil
}

// list writes numbers as people do.
func list(numbers []int) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ", ")
}
