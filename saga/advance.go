package saga

import (
	"errors"
	"fmt"
	"slices"
)

// advance is the decision that is being made about an instance. What is noted down is applied to a copy at once, so that the
// next thing to do is decided from it.
type advance struct {
	turn     *Turn[*Instance]
	was      *Instance
	instance *Instance
}

// begun copies the instance as it was.
func (a *advance) begun() {
	copied := *a.was
	copied.undo, copied.replies, copied.steps = slices.Clone(copied.undo), slices.Clone(copied.replies), slices.Clone(copied.steps)
	a.instance = &copied
}

func (a *advance) note(eventType string, data any) {
	if p, ok := data.(Progress); ok {
		a.instance.progress(eventType, p)
	}
	a.turn.Emit(eventType, data)
}

// begin notes down what a command is sent for, with the command's id, and sends it.
func (a *advance) begin(eventType string, p Progress, command Command) error {
	p.Command = a.turn.nth(a.turn.count + 1)
	a.note(eventType, p)
	return a.send(command)
}

// send sends a command. It is in the instance's stream, where it must not be taken for a note.
func (a *advance) send(command Command) error {
	if slices.Contains(notes(), command.Type) {
		return fmt.Errorf("a command cannot be of the type %s, which is the coordinator's own", command.Type)
	}
	a.turn.Emit(command.Type, command.Data)
	return nil
}

// last sends what is to be sent when the instance has ended.
func (a *advance) last(commands func(*Instance) ([]Command, error)) error {
	if commands == nil {
		return nil
	}
	all, err := commands(a.instance)
	for _, command := range all {
		err = errors.Join(err, a.send(command))
	}
	return err
}
