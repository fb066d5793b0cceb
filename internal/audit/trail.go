package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// The attributes of the CloudEvents extension "authcontext"
// (https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/authcontext.md).
const (
	extAuthType = "authtype" // what kind of somebody: user, service_account, system, ...
	extAuthID   = "authid"   // who
)

// Step is one event of a stream's history: when, who, what it changed, and why.
type Step struct {
	Stream     string    `json:"stream"`
	Version    int64     `json:"version"`
	Position   int64     `json:"position"`
	RecordedAt time.Time `json:"recorded_at"`
	Time       time.Time `json:"time,omitzero"` // as the event has it
	ID         string    `json:"id"`
	Type       string    `json:"type"`
	Source     string    `json:"source"`
	Subject    string    `json:"subject,omitempty"`
	// Who and WhoType are what the event says of who has brought it about. It is nobody's guess: empty where it
	// says nothing.
	Who     string `json:"who,omitempty"`
	WhoType string `json:"who_type,omitempty"`
	// Cause is the id of the event that brought this one about, and Flow the correlation id of all that belong
	// together.
	Cause   string   `json:"causationid,omitempty"`
	Flow    string   `json:"correlationid,omitempty"`
	Changes []Change `json:"changes"`
}

// Who says where an event tells who has brought it about. The zero Who is the extensions authid and authtype.
type Who struct {
	extension string
	members   []string // of the data
}

// ParseWho reads the name of an extension ("tenantuser"), or the way to a member of the data ("data.user.id").
func ParseWho(text string) (Who, error) {
	way := strings.Split(text, ".")
	switch {
	case !slices.Contains(way, "") && way[0] == "data" && len(way) > 1:
		return Who{members: way[1:]}, nil
	case len(way) > 1 || text == "data" || text == "":
		return Who{}, fmt.Errorf("%.40q: want the name of an extension, or a member of the data such as data.user.id", text)
	default:
		return Who{extension: text}, nil
	}
}

// of gives who it was, by an event.
func (w Who) of(e event.Event) (who, kind string) {
	switch {
	case w.members != nil:
		return w.member(e), ""
	case w.extension != "":
		return e.Extension(w.extension), ""
	default:
		return e.Extension(extAuthID), e.Extension(extAuthType)
	}
}

func (w Who) member(e event.Event) string {
	value := data(e)
	for _, name := range w.members {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		return value
	default:
		text, err := json.Marshal(value)
		if err != nil {
			return ""
		}
		return string(text)
	}
}

// Trail makes the history of a stream from its events, which it must be given all, in their order.
type Trail struct {
	Who Who

	state   State
	version int64
}

// ErrGap is returned for an event that is not the one behind the last.
var ErrGap = errors.New("not the next event of the stream")

// Next gives the next step.
func (t *Trail) Next(r eventstore.Recorded) (Step, error) {
	if r.Version != t.version+1 {
		return Step{}, fmt.Errorf("version %d follows version %d: %w", r.Version, t.version, ErrGap)
	}
	t.version = r.Version
	s := Step{
		Stream: r.Stream, Version: r.Version, Position: r.Position, RecordedAt: r.RecordedAt, Time: r.Time,
		ID: r.ID, Type: r.Type, Source: r.Source, Subject: r.Subject,
		Cause: r.CausationID(), Flow: r.CorrelationID(), Changes: []Change{},
	}
	s.Who, s.WhoType = t.Who.of(r.Event)
	t.state = Merge(t.state, r.Event, func(c Change) { s.Changes = append(s.Changes, c) })
	return s, nil
}

// Touches tells whether a step has changed the value at a path, or one within it, or one that it is within.
func (s Step) Touches(path string) bool {
	for _, c := range s.Changes {
		if covers(path, c.Path) || covers(c.Path, path) {
			return true
		}
	}
	return false
}

func covers(outer, path string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '/')
}
