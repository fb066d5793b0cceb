package topology

import (
	"context"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// State is what the broker tells about an exchange or a queue over AMQP.
type State struct {
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"`
	Exists bool   `json:"exists"`
	// Locked says that the queue belongs to a connection, which alone may use it.
	Locked bool `json:"locked,omitempty"`
	// Messages that are ready in the queue; those that are with consumers do not count, and a
	// stream always says 0.
	Messages int `json:"messages"`
	// Consumers of the queue.
	Consumers int `json:"consumers"`
}

// Inspect says which of the exchanges and queues exist, and what is in the queues, in the order
// of the resources. It changes nothing.
func (r Resources) Inspect(ctx context.Context, conn Channels) ([]State, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return withClient(ctx, conn, func(c *client) ([]State, error) { return r.inspect(ctx, c) })
}

func (r Resources) inspect(ctx context.Context, c *client) ([]State, error) {
	states := make([]State, 0, len(r.Exchanges)+len(r.Queues))
	for _, exchange := range r.Exchanges {
		state, err := c.inspect(ctx, KindExchange, exchange.Name)
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	for _, queue := range r.Queues {
		state, err := c.inspect(ctx, KindQueue, queue.Name)
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	return states, nil
}

// DeleteOption is a knob of [Resources.Delete].
type DeleteOption func(*deletion)

type deletion struct {
	ifEmpty, ifUnused, evenShared bool

	mu      sync.Mutex
	deleted func(State)
}

// IfEmpty deletes nothing if a queue has messages: the error is an [*InUseError] with all such
// queues. RabbitMQ has no such condition for quorum queues, so that the queues are looked at
// first, and what arrives between the look and the deletion is lost. Logs do not count.
func IfEmpty() DeleteOption { return func(d *deletion) { d.ifEmpty = true } }

// IfUnused deletes nothing if a queue has consumers, with the limits of [IfEmpty].
func IfUnused() DeleteOption { return func(d *deletion) { d.ifUnused = true } }

// EvenShared deletes the events exchange also while there are bindings from it: for a topology
// that shares it with nobody.
func EvenShared() DeleteOption { return func(d *deletion) { d.evenShared = true } }

// OnDeleted calls fn for everything that was deleted, with the state it was in before. Calls come
// one at a time, and none after Delete has returned.
func OnDeleted(fn func(State)) DeleteOption { return func(d *deletion) { d.deleted = fn } }

// Delete deletes the queues with everything in them, and then the exchanges with all their
// bindings, whoever made those. What does not exist is no error. The events exchange, which
// others share, is left if there are still bindings from it; see [EvenShared].
//
// It deletes in the opposite order of creation, so that no queue is left that dead-letters to one
// that is gone, and it stops at the first error: what was deleted until then is gone, and
// deleting again goes on.
func (r Resources) Delete(ctx context.Context, conn Channels, opts ...DeleteOption) error {
	if err := r.Validate(); err != nil { // deleting the queue "" deletes the one declared last
		return err
	}
	d := &deletion{deleted: func(State) {}}
	for _, opt := range opts {
		opt(d)
	}
	defer d.silence()
	_, err := withClient(ctx, conn, func(c *client) (struct{}, error) {
		states, err := r.inspect(ctx, c)
		if err == nil {
			err = d.refuse(states)
		}
		if err == nil {
			err = r.remove(ctx, c, d, states)
		}
		return struct{}{}, err
	})
	return err
}

// silence makes deleted tell no more: a call that ctx's end left behind may still delete something.
func (d *deletion) silence() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deleted = func(State) {}
}

func (d *deletion) tell(state State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deleted(state)
}

// refuse is the error for queues that are in use, if that matters.
func (d *deletion) refuse(states []State) error {
	var inUse []State
	for _, state := range states {
		if d.ifEmpty && state.Messages > 0 || d.ifUnused && state.Consumers > 0 {
			inUse = append(inUse, state)
		}
	}
	if len(inUse) == 0 {
		return nil
	}
	return &InUseError{Queues: inUse}
}

// remove deletes what exists, the last first.
func (r Resources) remove(ctx context.Context, c *client, d *deletion, states []State) error {
	for _, state := range slices.Backward(states) {
		if !state.Exists {
			continue
		}
		ifUnused := !d.evenShared && r.isShared(state)
		err := c.do(ctx, func(ch *amqp.Channel) error {
			if state.Kind == KindExchange {
				return ch.ExchangeDelete(state.Name, ifUnused, false)
			}
			_, err := ch.QueueDelete(state.Name, false, false, false)
			return err
		})
		switch {
		case ifUnused && hasCode(err, amqp.PreconditionFailed): // it is in use
		case err != nil:
			return explain("delete", state.Kind, state.Name, false, err)
		default:
			d.tell(state)
		}
	}
	return nil
}

// isShared is whether it is the events exchange.
func (r Resources) isShared(state State) bool {
	return state.Kind == KindExchange && slices.ContainsFunc(r.Exchanges, func(e Exchange) bool {
		return e.Name == state.Name && e.Role == RoleEvents
	})
}
