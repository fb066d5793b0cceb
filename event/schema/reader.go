package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/evdemo/evdemo/event"
)

// Upcaster brings the data of one version of an event type to the next one.
type Upcaster struct {
	// Type is the event type, From the version that is brought to From+1.
	Type string
	From int
	// Upcast makes the newer data from the older. It must depend on nothing else, and must not change
	// what it is given.
	Upcast func(data []byte) ([]byte, error)
}

// Reader gives a consumer events of the versions that it understands. Make it with [Registry.Reader].
type Reader struct {
	registry  *Registry
	wanted    map[string]int
	upcasters map[string][]Upcaster   // by type, the first is From version 1
	readable  map[string]map[int]bool // by type: newer versions that readers of the wanted one can read
}

// Reader makes a reader of the versions that are wanted, by event type. Of a type that is not listed, any
// version goes through as it is.
//
// The error names everything that does not fit together: a wanted version that has no schema, an upcaster
// that is there twice, and each gap, which is a version of the registry below the wanted one from which no
// upcasters lead there.
func (r *Registry) Reader(wanted map[string]int, upcasters ...Upcaster) (*Reader, error) {
	reader := &Reader{
		registry: r, wanted: maps.Clone(wanted),
		upcasters: map[string][]Upcaster{}, readable: map[string]map[int]bool{},
	}
	errs := reader.line(upcasters)
	for _, eventType := range slices.Sorted(maps.Keys(wanted)) {
		number := wanted[eventType]
		if _, err := r.version(eventType, number); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, reader.connect(eventType, number)...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return reader, nil
}

// line puts the upcasters of each type in a line by their versions.
func (r *Reader) line(upcasters []Upcaster) (errs []error) {
	for _, u := range upcasters {
		if u.From < 1 || u.Upcast == nil {
			errs = append(errs, fmt.Errorf("upcaster of %s from version %d: want a version from 1 up and a function", u.Type, u.From))
			continue
		}
		line := r.upcasters[u.Type]
		for len(line) < u.From {
			line = append(line, Upcaster{})
		}
		if line[u.From-1].Upcast != nil {
			errs = append(errs, fmt.Errorf("two upcasters of %s from version %d", u.Type, u.From))
		}
		line[u.From-1] = u
		r.upcasters[u.Type] = line
	}
	return errs
}

// connect finds the gaps below the wanted version, and the newer versions that can be read.
func (r *Reader) connect(eventType string, wanted int) (errs []error) {
	versions := r.registry.Versions(eventType)
	if versions[0] < wanted {
		for from := versions[0]; from < wanted; from++ {
			if r.upcaster(eventType, from) == nil {
				errs = append(errs, fmt.Errorf("no upcaster of %s from version %d to %d, and version %d is wanted", eventType, from, from+1, wanted))
			}
		}
	}
	r.readable[eventType] = map[int]bool{}
	for _, newer := range versions {
		if newer > wanted {
			diff, err := r.registry.Diff(eventType, wanted, newer)
			errs = append(errs, err)
			r.readable[eventType][newer] = diff.Compatibility.Satisfies(Forward)
		}
	}
	return errs
}

func (r *Reader) upcaster(eventType string, from int) func([]byte) ([]byte, error) {
	line := r.upcasters[eventType]
	if from > len(line) {
		return nil
	}
	return line[from-1].Upcast
}

// Read gives an event as the consumer understands it: checked against the schema of its own version, and
// then as [Reader.Upcast] gives it. An event of a type that the registry does not know goes through as it
// is.
//
// The error is a *[ViolationError] for data that does not adhere to a schema, a *[VersionError] for a
// version that is not understood, and wraps what an upcaster returned.
func (r *Reader) Read(e event.Event) (event.Event, error) {
	if err := r.registry.Check(e); err != nil {
		if errors.Is(err, ErrUnknownType) {
			return e, nil
		}
		return e, err
	}
	return r.Upcast(e)
}

// Upcast brings an event of an older version to the wanted one, with schemaversion set, and checks it
// against that. One of a newer version goes through where readers of the wanted one can read it, which is
// what [Forward] says; the error is a *[VersionError] where they cannot. One that has the wanted version, or
// of whose type none is wanted, goes through, and costs nothing. The event that was given does not change.
func (r *Reader) Upcast(e event.Event) (event.Event, error) {
	wanted, named := r.wanted[e.Type]
	if !named {
		return e, nil
	}
	version, ok := e.SchemaVersion()
	switch {
	case version == wanted && ok:
		return e, nil
	case !ok || version < r.registry.Versions(e.Type)[0]:
		return e, &VersionError{e.Type, e.Extension(event.ExtSchemaVersion), "no schema has this version"}
	case version < wanted:
		return r.upcast(e, version, wanted)
	case r.readable[e.Type][version]:
		return e, nil
	default:
		return e, &VersionError{e.Type, strconv.Itoa(version), fmt.Sprintf("readers of version %d cannot read it", wanted)}
	}
}

func (r *Reader) upcast(e event.Event, version, wanted int) (event.Event, error) {
	for ; version < wanted; version++ {
		data, err := r.upcaster(e.Type, version)(e.Data)
		if err != nil {
			return e, fmt.Errorf("bring %s from version %d to %d: %w", e.Type, version, version+1, err)
		}
		e.Data = data
	}
	e = e.WithExtension(event.ExtSchemaVersion, wanted)
	if err := r.registry.Check(e); err != nil {
		return e, fmt.Errorf("brought to version %d: %w", wanted, err)
	}
	return e, nil
}
