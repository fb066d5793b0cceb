package saga

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evdemo/evdemo/event"
)

// Definition is a process that a [Coordinator] runs: its steps, in their order. An instance that is under way when a
// definition changes goes on with the new one, by the names of its steps: add steps behind those that are there, and change
// Name for what is more than that.
type Definition struct {
	// Name is part of the names of the instances' streams, and has no hyphen in it. Required.
	Name string
	// Starts are the types of the events that begin an instance. One that was begun, by whichever event, is not begun again,
	// not even when it has ended. Required.
	Starts []string
	// ID says which instance an event is about: the one that it begins, or answers. Default: the event's subject.
	ID func(event.Event) string
	// Steps are taken one after the other. Required.
	Steps []Step
	// Completed gives the commands to be sent when the last step is done. Default: none.
	Completed func(*Instance) ([]Command, error)
	// Compensated gives the commands to be sent when all is taken back that was done. Default: none.
	Compensated func(*Instance) ([]Command, error)
}

// Step is one step of a process: a command, and the events that answer it.
type Step struct {
	// Name names the step in the log. Required.
	Name string
	// Do makes the command. An error of it fails the step. Required.
	Do func(*Instance) (Command, error)
	// Done are the types of the events that say that it is done, of which there must be one, and Failed of those that say
	// that it is not, and will not be. None of them may be an answer to another step.
	Done, Failed []string
	// Timeout is how long an answer may take. Then it is not known what the step has done, and it is compensated like those
	// before it: so whoever gets the command of Undo must be able to answer it where the step was never taken, and must not
	// take it afterwards. Zero means that the answer is waited for, however long it takes; that is right for a step that
	// cannot be undone.
	Timeout time.Duration
	// Undo makes the command that takes the step back. Nil means that there is nothing to take back. Undone are the types of
	// the events that say that this is done, which answer nothing else either; it has no timeout, since there is no other way.
	// Where Undo has an error, what was to follow from the event is not decided: it is tried again with the event, or when
	// the deadline is looked at again.
	Undo   func(*Instance) (Command, error)
	Undone []string
}

// Command is what a coordinator asks for: an event of this type, with this data as in event.New. Its id is the idempotency
// key of the step.
type Command struct {
	Type string
	Data any
}

func (d *Definition) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if d.Name == "" || strings.Contains(d.Name, "-") { // or the streams of two could have one name
		fault("want a Name without hyphens")
	}
	if len(d.Starts) == 0 {
		fault("want the types of events that begin it: Starts")
	}
	if len(d.Steps) == 0 {
		fault("want Steps")
	}
	answers := map[string]string{}
	for _, start := range d.Starts {
		answers[start] = "Starts"
	}
	names := map[string]bool{}
	for i, s := range d.Steps {
		if s.Name == "" || names[s.Name] {
			fault("step %d: want a Name of its own, not %q", i+1, s.Name)
		}
		names[s.Name] = true
		for _, err := range s.validate() {
			fault("step %s: %w", s.Name, err)
		}
		for _, t := range slices.Concat(s.Done, s.Failed, s.Undone) {
			if other, there := answers[t]; there {
				fault("step %s: %s is one of %s", s.Name, t, other)
			}
			answers[t] = "step " + s.Name
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("saga %q: %w", d.Name, errors.Join(faults...))
	}
	return nil
}

func (s *Step) validate() (faults []error) {
	if s.Do == nil {
		faults = append(faults, errors.New("want Do"))
	}
	if len(s.Done) == 0 {
		faults = append(faults, errors.New("want the types of events that say that it is done: Done"))
	}
	if (s.Undo == nil) != (len(s.Undone) == 0) {
		faults = append(faults, errors.New("want both of Undo and Undone, or neither"))
	}
	if s.Timeout < 0 {
		faults = append(faults, fmt.Errorf("want a Timeout of 0 or more, not %v", s.Timeout))
	}
	return faults
}

// types are all events that an instance has to do with.
func (d *Definition) types() []string {
	types := slices.Clone(d.Starts)
	for _, s := range d.Steps {
		types = slices.Concat(types, s.Done, s.Failed, s.Undone)
	}
	slices.Sort(types)
	return slices.Compact(types)
}
