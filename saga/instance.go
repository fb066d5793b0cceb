package saga

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// Types of the events that a [Coordinator] notes down in the stream of an instance. Their data are a [Started], a [Progress]
// or an [Ending].
const (
	TypeStarted     = "saga.started"
	TypeStepStarted = "saga.step_started"
	TypeStepDone    = "saga.step_done"
	TypeStepFailed  = "saga.step_failed"
	TypeUndoStarted = "saga.undo_started"
	TypeStepUndone  = "saga.step_undone"
	TypeCompleted   = "saga.completed"
	TypeCompensated = "saga.compensated"
)

// notes are all of them.
func notes() []string {
	return []string{
		TypeStarted, TypeStepStarted, TypeStepDone, TypeStepFailed, TypeUndoStarted, TypeStepUndone, TypeCompleted, TypeCompensated,
	}
}

// Started is the data of saga.started.
type Started struct {
	Saga  string   `json:"saga"`
	Steps []string `json:"steps"`
	// Trigger is the event that began it, in the CloudEvents JSON format.
	Trigger event.Event `json:"trigger"`
}

// Progress is the data of saga.step_* and saga.undo_started.
type Progress struct {
	Step string `json:"step"`
	// Command is the id of the command that was sent: of saga.step_started and saga.undo_started.
	Command string `json:"command,omitempty"`
	// Compensable says that the step has to be taken back if a later one fails, or if its own outcome is not heard of: of
	// saga.step_started. It is noted down before the step is taken.
	Compensable bool `json:"compensable,omitempty"`
	// Deadline is until when an answer is waited for: of saga.step_started.
	Deadline *time.Time `json:"deadline,omitempty"`
	// Reply is the event that answered, in the CloudEvents JSON format.
	Reply *event.Event `json:"reply,omitempty"`
	// Reason says why the step failed, and Unknown that it may have been taken all the same.
	Reason  string `json:"reason,omitempty"`
	Unknown bool   `json:"unknown,omitempty"`
}

// Ending is the data of saga.completed and saga.compensated.
type Ending struct {
	Saga   string `json:"saga"`
	Reason string `json:"reason,omitempty"`
}

// Status says how far an instance is.
type Status string

// The states of an instance. The zero value is that of one that has not begun.
const (
	Running      Status = "running"
	Compensating Status = "compensating"
	Completed    Status = "completed"
	Compensated  Status = "compensated"
)

// Instance is one run of a process. It is made from the events of its stream, and must not be changed.
type Instance struct {
	// ID is what Definition.ID gives for Trigger, the event that began it.
	ID      string
	Trigger event.Event
	Status  Status
	// Step is the one that is being taken, or taken back.
	Step string
	// Reason says why it is being compensated.
	Reason string

	command  string        // that waits for its answer
	deadline time.Time     // until when it does
	undo     []string      // names of steps to be taken back, in the order in which they were begun
	replies  []event.Event // of steps, in their order
	steps    []string      // that the replies are of
}

// Reply is the event that answered a step which is done.
func (i *Instance) Reply(step string) (reply event.Event, ok bool) {
	for n, name := range i.steps {
		if name == step {
			return i.replies[n], true
		}
	}
	return event.Event{}, false
}

// Read reads the data of the event that began the instance as JSON.
func (i *Instance) Read(into any) error { return jsonOf(i.Trigger, into) }

// fold makes instances from their streams, in which the commands are as well.
func fold(id func(event.Event) string) eventstore.Fold[*Instance] {
	return eventstore.Fold[*Instance]{
		Name: "saga", Version: 1,
		Initial: func() *Instance { return &Instance{} },
		Apply: func(i *Instance, r eventstore.Recorded) (*Instance, error) {
			return i, i.apply(r, id)
		},
	}
}

func (i *Instance) apply(r eventstore.Recorded, id func(event.Event) string) error {
	var p Progress
	switch r.Type {
	case TypeStarted:
		var s Started
		if err := json.Unmarshal(r.Data, &s); err != nil {
			return fmt.Errorf("%s: %w", r.Type, err)
		}
		i.ID, i.Trigger, i.Status = id(s.Trigger), s.Trigger, Running
		return nil
	case TypeCompleted:
		i.Status, i.Step, i.command = Completed, "", ""
		return nil
	case TypeCompensated:
		i.Status, i.Step, i.command = Compensated, "", ""
		return nil
	case TypeStepStarted, TypeStepDone, TypeStepFailed, TypeUndoStarted, TypeStepUndone:
		if err := json.Unmarshal(r.Data, &p); err != nil {
			return fmt.Errorf("%s: %w", r.Type, err)
		}
		i.progress(r.Type, p)
		return nil
	default: // a command
		return nil
	}
}

func (i *Instance) progress(eventType string, p Progress) {
	switch eventType {
	case TypeStepStarted:
		i.Step, i.command, i.deadline = p.Step, p.Command, time.Time{}
		if p.Deadline != nil {
			i.deadline = *p.Deadline
		}
		if p.Compensable {
			i.undo = append(i.undo, p.Step)
		}
	case TypeStepDone:
		i.command = ""
		i.steps = append(i.steps, p.Step)
		if p.Reply != nil {
			i.replies = append(i.replies, *p.Reply)
		} else {
			i.replies = append(i.replies, event.Event{})
		}
	case TypeStepFailed:
		i.Status, i.Reason, i.command = Compensating, p.Reason, ""
		if n := len(i.undo); n > 0 && i.undo[n-1] == p.Step && !p.Unknown { // it has not been taken
			i.undo = i.undo[:n-1]
		}
	case TypeUndoStarted:
		i.Step, i.command, i.deadline = p.Step, p.Command, time.Time{}
	case TypeStepUndone:
		i.command = ""
		if n := len(i.undo); n > 0 {
			i.undo = i.undo[:n-1]
		}
	}
}
