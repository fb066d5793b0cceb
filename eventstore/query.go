package eventstore

import (
	"errors"
	"fmt"
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
	// AsOf reads what the log had in it at this time: the events appended until then. It is by Recorded.RecordedAt, not
	// by the time that an event bears.
	AsOf time.Time
	// Correlation reads one flow: the events with this correlationid, and the one that began it, which has this id.
	Correlation string
	// Types reads events of these types.
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

// selection is a query's conditions as SQL.
type selection struct {
	text strings.Builder
	args []any
}

// add adds a condition, whose question marks stand for the arguments.
func (s *selection) add(condition string, args ...any) {
	if s.text.Len() > 0 {
		s.text.WriteString(" AND ")
	}
	for i, part := range strings.Split(condition, "?") {
		if i > 0 {
			s.args = append(s.args, args[i-1])
			s.text.WriteString("$" + strconv.Itoa(len(s.args)))
		}
		s.text.WriteString(part)
	}
}

// selection gives the conditions on everything but the position.
func (q Query) selection() *selection {
	s := &selection{}
	if q.Stream != "" {
		s.add("stream = ?", q.Stream)
	}
	if q.FromVersion > 0 {
		s.add("version >= ?", q.FromVersion)
	}
	if q.ToVersion > 0 {
		s.add("version <= ?", q.ToVersion)
	}
	if q.Correlation != "" {
		s.add("(correlation = ? OR id = ?)", q.Correlation, q.Correlation)
	}
	if len(q.Types) > 0 {
		args := make([]any, len(q.Types))
		for i, t := range q.Types {
			args[i] = t
		}
		s.add("type IN (?"+strings.Repeat(", ?", len(q.Types)-1)+")", args...)
	}
	if q.Subject != "" {
		s.add("subject = ?", q.Subject)
	}
	return s
}
