package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/worker"
)

// CoordinatorConfig says what a [Coordinator] runs, and where. Store and Definition are required.
type CoordinatorConfig struct {
	Store      *eventstore.Store
	Definition Definition
	// Source is the source of the events that the coordinator makes. Default "saga/" and the definition's name.
	Source string
	// Poll is how often deadlines are looked at: a timeout may take so much longer. Default 250 ms.
	Poll time.Duration
	// Lease is how long the process that keeps the table of deadlines may be silent before another takes over. Default 10 s.
	Lease time.Duration
	// Logger receives the instances that fail, and what does not go well in the background. Default: nothing is logged.
	Logger *slog.Logger
}

// Coordinator runs the instances of a process. Any number of coordinators of one definition may run on a store, in any number
// of processes. Its methods may be called from several goroutines.
//
// Each instance has a stream of its own, saga-NAME-ID, in which the commands are as well: what a coordinator notes down and
// what it asks for are appended together. A step is noted down as one that may have to be taken back before its command is
// there.
type Coordinator struct {
	config     CoordinatorConfig
	definition Definition
	kernel     *kernel[*Instance]
	types      []string
	timeouts   bool // whether any step has one
}

// NewCoordinator checks a config, and makes the coordinator. The error names everything that is wrong.
func NewCoordinator(config CoordinatorConfig) (*Coordinator, error) {
	err := config.Definition.validate()
	if config.Store == nil {
		err = errors.Join(errors.New("want a Store"), err)
	}
	if err != nil {
		return nil, err
	}
	d := config.Definition
	if d.ID == nil {
		d.ID = func(e event.Event) string { return e.Subject }
	}
	if config.Source == "" {
		config.Source = "saga/" + d.Name
	}
	if config.Poll <= 0 {
		config.Poll = 250 * time.Millisecond
	}
	if config.Lease <= 0 {
		config.Lease = eventstore.DefaultLease
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Coordinator{
		config: config, definition: d, types: d.types(),
		kernel:   newKernel(config.Store, config.Source, fold(d.ID), 0),
		timeouts: slices.ContainsFunc(d.Steps, func(s Step) bool { return s.Timeout > 0 }),
	}, nil
}

// Types are the types of the events that Handle is to get.
func (c *Coordinator) Types() []string { return slices.Clone(c.types) }

// Stream is the stream of an instance.
func (c *Coordinator) Stream(id string) string { return "saga-" + c.definition.Name + "-" + id }

// Load gives an instance as it is now. One that has not begun has no Status.
func (c *Coordinator) Load(ctx context.Context, id string) (*Instance, error) {
	state, err := eventstore.Load(ctx, c.config.Store, c.Stream(id), c.kernel.fold, eventstore.WithoutSnapshots())
	return state.Value, err
}

// Handle is the [worker.Handler] of the coordinator: it begins instances and takes answers, and returns nil once what follows
// from that is durable. Answers that no instance waits for, or not any more, change nothing; other events are skipped, see
// [worker.ErrSkip].
func (c *Coordinator) Handle(ctx context.Context, d *worker.Delivery) error {
	e := d.Event
	if _, ours := slices.BinarySearch(c.types, e.Type); !ours {
		return worker.ErrSkip
	}
	id := c.definition.ID(e)
	if id == "" {
		return worker.Permanent(fmt.Errorf("%s %s does not say which instance it is about", e.Type, e.ID))
	}
	stream := c.Stream(id)
	key := stream + "\x00" + keyOf(e) // which may begin instances of two sagas
	_, err := c.kernel.decide(ctx, key, e, []string{stream}, func(_ context.Context, t *Turn[*Instance]) error {
		return c.advance(&advance{turn: t, was: t.State()})
	})
	return err
}

// advance decides what an event means for an instance.
func (c *Coordinator) advance(a *advance) error {
	e := a.turn.Trigger
	switch a.was.Status {
	case "":
		if !slices.Contains(c.definition.Starts, e.Type) {
			return nil
		}
		names := make([]string, len(c.definition.Steps))
		for i, s := range c.definition.Steps {
			names[i] = s.Name
		}
		a.instance = &Instance{ID: c.definition.ID(e), Trigger: e, Status: Running}
		a.note(TypeStarted, Started{Saga: c.definition.Name, Steps: names, Trigger: e})
		return c.begin(a, 0)
	case Running:
		at, err := c.at(a.was)
		if err != nil {
			return err
		}
		step := c.definition.Steps[at]
		switch {
		case slices.Contains(step.Done, e.Type):
			a.begun()
			a.note(TypeStepDone, Progress{Step: step.Name, Reply: &e})
			return c.begin(a, at+1)
		case slices.Contains(step.Failed, e.Type):
			a.begun()
			return c.fail(a, Progress{Step: step.Name, Reply: &e, Reason: reason(e)})
		}
	case Compensating:
		at, err := c.at(a.was)
		if err != nil {
			return err
		}
		if slices.Contains(c.definition.Steps[at].Undone, e.Type) {
			a.begun()
			a.note(TypeStepUndone, Progress{Step: a.was.Step, Reply: &e})
			return c.undo(a)
		}
	case Completed, Compensated:
	}
	return nil // it comes too late, or a second time
}

// begin takes the step at a place, or ends where there is none.
func (c *Coordinator) begin(a *advance, at int) error {
	if at == len(c.definition.Steps) {
		a.note(TypeCompleted, Ending{Saga: c.definition.Name})
		return a.last(c.definition.Completed)
	}
	step := c.definition.Steps[at]
	command, err := step.Do(a.instance)
	if err != nil {
		return c.fail(a, Progress{Step: step.Name, Reason: err.Error()})
	}
	p := Progress{Step: step.Name, Compensable: step.Undo != nil}
	if step.Timeout > 0 {
		deadline := time.Now().Add(step.Timeout).UTC().Truncate(time.Microsecond)
		p.Deadline = &deadline
	}
	return a.begin(TypeStepStarted, p, command)
}

// fail notes down that a step has failed, and begins to take back what was done.
func (c *Coordinator) fail(a *advance, p Progress) error {
	a.note(TypeStepFailed, p)
	c.config.Logger.Info("a step of a saga has failed", slog.String("saga", c.definition.Name), slog.String("id", a.instance.ID),
		slog.String("step", p.Step), slog.String("reason", p.Reason))
	return c.undo(a)
}

// undo takes back the last step that is to be taken back, or ends where there is none.
func (c *Coordinator) undo(a *advance) error {
	n := len(a.instance.undo)
	if n == 0 {
		a.note(TypeCompensated, Ending{Saga: c.definition.Name, Reason: a.instance.Reason})
		return a.last(c.definition.Compensated)
	}
	name := a.instance.undo[n-1]
	at := c.step(name)
	if at < 0 || c.definition.Steps[at].Undo == nil {
		return fmt.Errorf("saga %s of %s has to take back step %q, for which it has no Undo any more", c.definition.Name, a.instance.ID, name)
	}
	command, err := c.definition.Steps[at].Undo(a.instance)
	if err != nil {
		return fmt.Errorf("take back step %s of saga %s of %s: %w", name, c.definition.Name, a.instance.ID, err)
	}
	return a.begin(TypeUndoStarted, Progress{Step: name}, command)
}

// reason is why an event says that something failed: its type, and what its data has to say.
func reason(e event.Event) string {
	var data struct{ Reason string }
	if json.Unmarshal(e.Data, &data) == nil && data.Reason != "" {
		return e.Type + ": " + data.Reason
	}
	return e.Type
}

// at is the place of the step that an instance is at.
func (c *Coordinator) at(i *Instance) (int, error) {
	at := c.step(i.Step)
	if at < 0 {
		return at, fmt.Errorf("saga %s of %s is at step %q, which it does not have any more", c.definition.Name, i.ID, i.Step)
	}
	return at, nil
}

func (c *Coordinator) step(name string) int {
	return slices.IndexFunc(c.definition.Steps, func(s Step) bool { return s.Name == name })
}

// expire has the step of an instance fail whose deadline has passed, if it still waits. A panic of the definition's is an
// error, as it is where a worker calls Handle.
func (c *Coordinator) expire(ctx context.Context, id string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &worker.PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	stream := c.Stream(id)
	state, err := c.Load(ctx, id)
	if err != nil || state.Status != Running || state.command == "" {
		return err
	}
	command := state.command
	cause, err := c.sent(ctx, stream, command)
	if err != nil {
		return err
	}
	_, err = c.kernel.decide(ctx, "\x00timeout\x00"+command, cause, []string{stream}, func(_ context.Context, t *Turn[*Instance]) error {
		was := t.State()
		if was.Status != Running || was.command != command || was.deadline.IsZero() || time.Now().Before(was.deadline) {
			return nil
		}
		a := &advance{turn: t, was: was}
		a.begun()
		reason := fmt.Sprintf("no answer to %s by %s", cause.Type, was.deadline.Format(time.RFC3339Nano))
		return c.fail(a, Progress{Step: was.Step, Reason: reason, Unknown: true})
	})
	return err
}

// sent is a command, as it is in the instance's stream.
func (c *Coordinator) sent(ctx context.Context, stream, id string) (event.Event, error) {
	for r, err := range c.config.Store.Read(ctx, eventstore.Query{Stream: stream, Backwards: true}) {
		if err != nil {
			return event.Event{}, err
		}
		if r.ID == id {
			return r.Event, nil
		}
	}
	return event.Event{}, fmt.Errorf("stream %s does not have its command %s", stream, id)
}
