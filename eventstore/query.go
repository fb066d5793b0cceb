package eventstore

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Query says which events to read. Its zero value means all, in the order of their positions. Conditions go
// together: an event must meet each.
type Query struct {
	// Stream reads one stream.
	Stream string
	// FromVersion and ToVersion are the first and the last version to read of Stream; 0 means no limit.
	FromVersion, ToVersion int64
	// After and Through limit the positions: from the one after After, up to and with Through; 0 means no limit.
	After, Through int64
	// AsOf reads the events that had been appended at this time. It is by Recorded.RecordedAt, not by the time that an event
	// bears: the moment at which its transaction began to append, by the clock of the machine that did (PostgreSQL: of the
	// server). So a moment just gone by may still gain events, until the transactions of then have committed.
	AsOf time.Time
	// Correlation reads one flow: the events with this correlationid, and the one that began it, which has this id.
	Correlation string
	// Types reads events of these types, those that the log has: Config.Upcast comes after that.
	Types []string
	// Subject reads events with this subject.
	Subject string
	// Backwards reads the last event first.
	Backwards bool
	// Limit is how many events to read at most; 0 means no limit.
	Limit int
}

func (q Query) validate() error {
	var mistakes []error
	if q.Stream == "" && (q.FromVersion != 0 || q.ToVersion != 0) {
		mistakes = append(mistakes, errors.New("versions are those of a stream: name it"))
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"FromVersion", q.FromVersion}, {"ToVersion", q.ToVersion}, {"After", q.After}, {"Through", q.Through}, {"Limit", int64(q.Limit)},
	} {
		if n.value < 0 {
			mistakes = append(mistakes, fmt.Errorf("a negative Query.%s: %d", n.name, n.value))
		}
	}
	return errors.Join(mistakes...)
}

// condition is an SQL condition whose question marks stand for the arguments.
type condition struct {
	text string
	args []any
}

func where(text string, args ...any) condition { return condition{text, args} }

// statementText puts SQL together, with the arguments numbered as both databases read them.
type statementText struct {
	text strings.Builder
	args []any
}

func (s *statementText) add(text string) { s.text.WriteString(text) }

// where adds a WHERE with all the conditions, if there are any.
func (s *statementText) where(conditions ...condition) {
	for i, c := range conditions {
		s.add([]string{" WHERE ", " AND "}[min(i, 1)])
		for j, part := range strings.Split(c.text, "?") {
			if j > 0 {
				s.args = append(s.args, c.args[j-1])
				s.add("$" + strconv.Itoa(len(s.args)))
			}
			s.add(part)
		}
	}
}

// conditions gives those on everything but the position that hold for all the query's events.
func (q Query) conditions() []condition {
	var all []condition
	if q.Stream != "" {
		all = append(all, where("stream = ?", q.Stream))
	}
	if q.FromVersion > 0 {
		all = append(all, where("version >= ?", q.FromVersion))
	}
	if q.ToVersion > 0 {
		all = append(all, where("version <= ?", q.ToVersion))
	}
	if q.Subject != "" {
		all = append(all, where("subject = ?", q.Subject))
	}
	return all
}

// maxBranches is up to how many types are read by their index.
const maxBranches = 16

// branches gives the conditions of which exactly one holds for each event. Each has an index of its own that is in the
// order of the positions; put together with OR or IN, the databases may sort all that there is for every page.
func (q Query) branches() [][]condition {
	branches := [][]condition{nil}
	if q.Correlation != "" {
		branches = [][]condition{
			{where("correlation = ?", q.Correlation)},
			{where("id = ?", q.Correlation), where("coalesce(correlation, '') <> ?", q.Correlation)},
		}
	}
	types := slices.Compact(slices.Sorted(slices.Values(q.Types)))
	switch {
	case len(types) == 0:
		return branches
	case len(types) > maxBranches: // so many are not few of the events: the log is gone through in its order
		args := make([]any, len(types))
		for i, t := range types {
			args[i] = t
		}
		in := where("type IN (?"+strings.Repeat(", ?", len(types)-1)+")", args...)
		for i, b := range branches {
			branches[i] = append(b, in)
		}
		return branches
	}
	all := make([][]condition, 0, len(branches)*len(types))
	for _, t := range types {
		for _, b := range branches {
			all = append(all, append(slices.Clone(b), where("type = ?", t)))
		}
	}
	return all
}
