package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/publisher"
)

// Defaults of [Config].
const (
	DefaultName         = "relay"
	DefaultWindow       = 1000
	DefaultDrainTimeout = 10 * time.Second
)

// Head is the Config.From of a relay that publishes nothing of what is in the log when it begins.
const Head int64 = -1

// Publisher is what a relay needs of a *[publisher.Publisher]: done is called once for every event for which Send has
// returned nil, and events sent by one goroutine arrive for the first time in the order of the calls.
type Publisher interface {
	Send(ctx context.Context, m publisher.Message, done func(publisher.Result)) error
}

// Config says what to publish where. Store, Publisher and To are required.
type Config struct {
	// Store is the event store whose log is published. Its Config.Upcast, where there is one, is applied to what
	// goes out.
	Store *eventstore.Store
	// Publisher is a *publisher.Publisher. It stays the caller's, who closes it once Run has returned. Its Window
	// should not be less than the relay's.
	Publisher Publisher
	// Name names the checkpoint and the lease. Relays with different names publish independently of each other.
	// Default "relay".
	Name string
	// To says where an event goes: [ToTopic] or [ToQueue], for one. It must give the same answer whenever it is
	// asked about the same event, and return quickly. An error that wraps [ErrSkip] leaves the event out; any other
	// ends the relay before the event.
	To func(eventstore.Recorded) (publisher.Destination, error)
	// Types are the types of the events to publish; none means all. The others are passed over.
	Types []string
	// From is the position behind which a relay begins that has no checkpoint yet; with one it has no meaning.
	// Default 0, the beginning of the log; [Head] is its end.
	From int64
	// Window is how many events may have been sent of which the checkpoint does not know: how many may be on their
	// way at a time, and how many come twice after a crash. Default 1000.
	Window int
	// Lease is how long the active relay may be silent before another takes over. Default 10 s.
	Lease time.Duration
	// DrainTimeout is how long Run may take once its context has ended, for the answers to what was sent and the
	// last checkpoint. Default 10 s.
	DrainTimeout time.Duration
	// CatchUp ends the relay once everything is published that was in the log when it became the active one.
	CatchUp bool
	// Logger receives when the relay becomes the active one, stands still and goes on. Default: nothing is logged.
	Logger *slog.Logger
}

// ToTopic is a Config.To that sends every event to a topic.
func ToTopic(topic string) func(eventstore.Recorded) (publisher.Destination, error) {
	return func(eventstore.Recorded) (publisher.Destination, error) { return publisher.ToTopic(topic), nil }
}

// ToQueue is a Config.To that sends every event straight to a queue.
func ToQueue(queue string) func(eventstore.Recorded) (publisher.Destination, error) {
	return func(eventstore.Recorded) (publisher.Destination, error) { return publisher.ToQueue(queue), nil }
}

func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(c.mistakes()...)
}

func (c Config) mistakes() (mistakes []error) {
	if c.Store == nil || c.Publisher == nil || c.To == nil {
		mistakes = append(mistakes, errors.New("Config.Store, Publisher and To are all needed"))
	}
	if c.From < Head {
		mistakes = append(mistakes, fmt.Errorf("Config.From is negative: %d", c.From))
	}
	const maxWindow = 1 << 20
	if c.Window < 1 || c.Window > maxWindow {
		mistakes = append(mistakes, fmt.Errorf("Config.Window %d is not within 1 to %d", c.Window, maxWindow))
	}
	if c.Lease < 0 || c.DrainTimeout < 0 {
		mistakes = append(mistakes, errors.New("Config.Lease and DrainTimeout cannot be negative"))
	}
	return mistakes
}

// key is the name of the checkpoint and the lease in the store.
func key(name string) string { return "relay/" + name }
