package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
)

// DefaultGateWait is how long a [Gate] holds an event back.
const DefaultGateWait = 5 * time.Minute

// Gate holds an event back until the event that it comes after, its parent, has been handled by the same
// group of consumers. The parent is the one that event.Event.ParentID names.
//
// What is held is in the gate's store and acknowledged, so it takes nothing of the prefetch. When its parent
// has been handled it is sent to the queue that it came from, with a confirm, and then forgotten by the
// store: a crash in between makes a duplicate, never a loss. Its own children follow in the same way, once
// it has been handled. Whether an event is held, and whether its parent has been handled, is one question
// to the store, so that two workers, one with the parent and one with the child, never leave the child
// behind.
//
// An event is not held where it has no parent, or where the type of its parent, which is its extension
// parenttype, is none of Types. An event that was dead-lettered has not been handled, and one that the
// handler skipped, or that is a duplicate, has: nothing more will come of it.
//
// A held event whose parent does not come within Wait is dead-lettered with the reason orphan.
type Gate struct {
	// Store is needed. Workers of one group share it.
	Store GateStore
	// Group names the consumers for which order is kept: the services' one, where several queues feed
	// it. Default: the queue.
	Group string
	// Types are the event types that the group handles. It waits for parents of no others. Default:
	// for all.
	Types []string
	// Wait is how long an event is held at most. Default 5 min, at least 1 ms.
	Wait time.Duration
}

// GateStore keeps what a [Gate] holds, and remembers which events a group has handled. Its methods may be
// called from several goroutines, and each is all or nothing. [NewGateMemory] makes one that ends with the
// process; package inbox has one on SQLite, inbox/postgres on PostgreSQL.
type GateStore interface {
	// Hold keeps h until its parent is marked. It returns false, and keeps nothing, where that is so
	// already. What is held already stays as it is, unless somebody has it to send it on: then it begins
	// anew, and their Forget does not remove it.
	Hold(ctx context.Context, group string, h Held) (held bool, err error)
	// Mark remembers that the event id has been handled, and gives what waits for it, in the order in
	// which it was held, claimed as by Claim.
	Mark(ctx context.Context, group, id string) ([]Held, error)
	// Claim gives what is not to be held any longer at a moment, and, if only once in a lease, what waits
	// for an event that has been marked, in the order in which it was held. It gives at most GateBatch
	// of them, and none that was given to somebody within the lease.
	Claim(ctx context.Context, group string, now time.Time, lease time.Duration) ([]Held, error)
	// Forget removes what has been sent on, unless it was held again or given to somebody else since.
	Forget(ctx context.Context, group string, sent []Held) error
	// Holding counts what is held.
	Holding(ctx context.Context, group string) (int, error)
	// Durable tells whether what is held survives the process.
	Durable() bool
}

// GateLease is how long a worker has for sending on what a [GateStore] has given it, before another one may
// have it.
const GateLease = 10 * time.Second

// GateBatch is how much a [GateStore] gives at a time.
const GateBatch = 1000

// Held is an event that is held back.
type Held struct {
	// Queue is where it came from, Source and ID are the event's: together they name it in its group.
	Queue, Source, ID string
	// Parent is the id of the event that it waits for.
	Parent string
	// Until is when that is given up.
	Until time.Time
	// Ready says that its parent has been handled.
	Ready bool
	// Claim names the time that a store has given it, for Forget.
	Claim int64
	// Message is the whole message.
	Message []byte
}

func (g *Gate) withDefaults(queue string) (*Gate, error) {
	if g == nil {
		return nil, nil //nolint:nilnil // no gate, and nothing wrong with that
	}
	gate := *g
	gate.Group = cmp.Or(gate.Group, queue)
	gate.Wait = cmp.Or(gate.Wait, DefaultGateWait)
	switch {
	case gate.Store == nil:
		return nil, errors.New("a gate needs a store")
	case queue == "":
		return nil, errors.New("a gate is for a queue: a listener's events cannot be sent back to it")
	case gate.Wait < time.Millisecond:
		return nil, fmt.Errorf("gate wait %v is less than 1ms", gate.Wait)
	}
	return &gate, nil
}

// parentOf is the id of the event that another one has to wait for; "" where it has to wait for none.
func (g *Gate) parentOf(d *Delivery) string {
	parent := d.Event.ParentID()
	if parent == "" || d.Foreign != nil || parent == d.Event.ID {
		return ""
	}
	parentType := d.Event.Extension(event.ExtParentType)
	if len(g.Types) > 0 && parentType != "" && !slices.Contains(g.Types, parentType) {
		return ""
	}
	return parent
}
