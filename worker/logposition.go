package worker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/evdemo/evdemo/topology"
)

// LogPosition is a place in the log of a topic. The zero value is the beginning.
type LogPosition struct {
	kind   logPositionKind
	offset int64
	at     time.Time
	after  string // the fingerprint of the entry before offset, where it is known
}

type logPositionKind int

const (
	logFirst logPositionKind = iota
	logLast
	logNext
	logOffset
	logTime
)

// LogFirst is the oldest event that the log still holds.
func LogFirst() LogPosition { return LogPosition{} }

// LogLast is the newest event that the log holds at this moment, or the next one where it is empty.
func LogLast() LogPosition { return LogPosition{kind: logLast} }

// LogNext is the next event that is published.
func LogNext() LogPosition { return LogPosition{kind: logNext} }

// LogOffset is the event with this offset, 0 or more, or the oldest after it that there is.
func LogOffset(offset int64) LogPosition { return LogPosition{kind: logOffset, offset: max(offset, 0)} }

// LogAfter is the place behind an entry that was read before, which is known by its fingerprint: in a log
// that was made anew since, it is not found, and reading fails with [ErrBeyondLog].
func LogAfter(offset int64, fingerprint string) LogPosition {
	return LogPosition{kind: logOffset, offset: max(offset+1, 0), after: fingerprint}
}

// LogTime is a moment of the events' own time: see [Entry.Time].
func LogTime(at time.Time) LogPosition { return LogPosition{kind: logTime, at: at} }

// ParseLogPosition reads first, last, next, an offset ("4711"), a time in RFC 3339, or a duration
// before now ("90s", "1h", "7d").
func ParseLogPosition(s string, now time.Time) (LogPosition, error) {
	switch strings.ToLower(s) {
	case "first":
		return LogFirst(), nil
	case "last":
		return LogLast(), nil
	case "next":
		return LogNext(), nil
	}
	if offset, err := strconv.ParseInt(s, 10, 64); err == nil && offset >= 0 {
		return LogOffset(offset), nil
	}
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return LogTime(at), nil
	}
	if ago, err := topology.ParseDuration(s); err == nil {
		return LogTime(now.Add(-ago)), nil
	}
	return LogPosition{}, fmt.Errorf("%.40q is no place in a log: want first, last, next, an offset such as 4711, a time such as 2026-01-02T15:04:05Z, or how long ago, such as 1h", s)
}

// Offset is the offset of a position that is one.
func (p LogPosition) Offset() (offset int64, ok bool) { return p.offset, p.kind == logOffset }

// Time is the moment of a position that is one.
func (p LogPosition) Time() (at time.Time, ok bool) { return p.at, p.kind == logTime }

// String is the position as [ParseLogPosition] reads it.
func (p LogPosition) String() string {
	switch p.kind {
	case logLast:
		return "last"
	case logNext:
		return "next"
	case logOffset:
		return strconv.FormatInt(p.offset, 10)
	case logTime:
		return p.at.Format(time.RFC3339Nano)
	default:
		return "first"
	}
}

// clockSkew is how much later than the broker's clock those of publishers may run, for which the
// broker is asked to begin earlier. It also covers that the broker takes whole seconds.
const clockSkew = 5 * time.Second

// argument is the position as the broker takes it.
func (p LogPosition) argument() any {
	switch p.kind {
	case logOffset:
		return p.offset
	case logTime:
		if at := p.at.Add(-clockSkew); at.Unix() > 0 { // the protocol has no others
			return at
		}
		return LogFirst().String()
	default:
		return p.String()
	}
}
