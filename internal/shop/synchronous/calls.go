package synchronous

import (
	"context"
	"errors"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// calls is what was asked of the services for an order: the commands in the stream calls-ORDER, each of which is there once.
// What is known of them may be less than the log has: to ask again for what was asked is harmless, and whoever decides anew is
// told by add.
type calls struct {
	store   *eventstore.Store
	stream  string
	version int64
	asked   map[string]event.Event
}

func newCalls(store *eventstore.Store, order string) *calls {
	return &calls{store: store, stream: "calls-" + order, asked: map[string]event.Event{}}
}

// load reads the log.
func (c *calls) load(ctx context.Context) error {
	version, asked := int64(0), map[string]event.Event{}
	for r, err := range c.store.Read(ctx, eventstore.Query{Stream: c.stream}) {
		if err != nil {
			return err
		}
		version, asked[r.Type] = r.Version, r.Event
	}
	c.version, c.asked = version, asked
	return nil
}

// has tells whether a command is known to be in the log.
func (c *calls) has(command string) bool {
	_, ok := c.asked[command]
	return ok
}

// add puts commands in the log, all or none, provided that it is as it was. Otherwise they are not there, what is there is
// loaded, and the error is errOvertaken. After any other error they may be there.
func (c *calls) add(ctx context.Context, commands ...event.Event) error {
	appended, err := c.store.Append(ctx, eventstore.StreamWrite{
		Stream: c.stream, Expect: eventstore.Exactly(c.version), Events: commands,
	})
	if _, conflict := errors.AsType[*eventstore.ConflictError](err); conflict {
		if err := c.load(ctx); err != nil {
			return err
		}
		return errOvertaken
	}
	if err != nil {
		return err
	}
	c.version = appended.Versions[0]
	for _, e := range commands {
		c.asked[e.Type] = e
	}
	return nil
}
