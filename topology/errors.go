package topology

import (
	"fmt"
	"strconv"
	"strings"
)

// InvalidError says that a topology cannot be: all the mistakes that were found in it, in the
// order of the file where there is one. Nothing was sent to a broker.
type InvalidError struct {
	Mistakes []Mistake
}

// Mistake is one thing that is wrong with a topology.
type Mistake struct {
	// File, Line and Column say where, counted from 1; the column counts characters. Line is 0
	// where the topology was not read from a file.
	File         string
	Line, Column int
	// Path says which part of the topology: "topics.orders.groups[1]".
	Path string
	// Message says what is wrong and what to write instead.
	Message string
	// Excerpt is the lines around the mistake with a mark under it, or empty.
	Excerpt string
}

// Error puts one mistake after the other, each with its excerpt.
func (e *InvalidError) Error() string {
	lines := make([]string, 0, len(e.Mistakes))
	for _, mistake := range e.Mistakes {
		line := mistake.String()
		if mistake.Excerpt != "" {
			line += "\n" + mistake.Excerpt
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// String is the mistake in one line, as compilers write it: "topology.yaml:3:5: ...".
func (m Mistake) String() string {
	where := m.Path
	if m.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", m.File, m.Line, m.Column)
	}
	if where == "" {
		return m.Message
	}
	return where + ": " + m.Message
}

// ConflictError says that an object exists on the broker and is not what was wanted. RabbitMQ
// cannot change an object that exists: it is kept as it is, or deleted and made anew.
type ConflictError struct {
	// Kind and Name say which: [KindExchange] or [KindQueue].
	Kind Kind
	Name string
	// Differences are all the arguments that differ, in the order the broker named them. Where the
	// queue is of another type, only those are compared that a queue of its type can have.
	Differences []Difference
	// Incomplete says that more may differ: the broker's answer was not one that can be read to
	// the end. It shortens its answers to 255 bytes, so that this happens with very long names.
	Incomplete bool
}

// Difference is one argument of an object that is not as wanted.
type Difference struct {
	// Argument by RabbitMQ's name: durable, auto_delete, exclusive, type, x-queue-type, ...
	Argument string `json:"argument"`
	// Want and Have are string, int64, float64 or bool; nil means not set.
	Want any `json:"want"`
	Have any `json:"have"`
	// HaveUnknown says that the broker did not tell; Have is nil then.
	HaveUnknown bool `json:"have_unknown,omitempty"`
}

// String is "x-delivery-limit is 5, wanted 20".
func (d Difference) String() string {
	have := formatValue(d.Have)
	if d.HaveUnknown {
		have = "something else"
	}
	return d.Argument + " is " + have + ", wanted " + formatValue(d.Want)
}

func formatValue(value any) string {
	switch v := value.(type) {
	case nil:
		return "not set"
	case string:
		return strconv.Quote(v)
	}
	return fmt.Sprint(value)
}

// Error names every difference and says what can be done.
func (e *ConflictError) Error() string {
	differences := make([]string, 0, len(e.Differences)+1)
	for _, difference := range e.Differences {
		differences = append(differences, difference.String())
	}
	if e.Incomplete {
		differences = append(differences, "and more may differ")
	}
	advice := "keep it and take another name, or delete it and apply again"
	if e.Kind == KindQueue {
		advice = "keep it and take another name, or save what is in it, delete it and apply again"
	}
	return fmt.Sprintf("%s %s exists with other arguments: %s; %s",
		e.Kind, e.Name, strings.Join(differences, "; "), advice)
}

// AccessError says that the broker's user may not do what is needed with an object. Unwrap gives
// the broker's own words.
type AccessError struct {
	Kind Kind
	Name string
	// Exists says that the object is there, so that one may go on without declaring it.
	Exists bool
	verb   string
	err    error
}

// Error says which permission is missing and what can be done.
func (e *AccessError) Error() string {
	advice := "ask for the permission, or have it done by someone who has it"
	if e.Exists {
		advice = "it exists: ask for the permission, or go on without declaring it"
	}
	return fmt.Sprintf("%s %s %s: %v; %s", e.verb, e.Kind, e.Name, e.err, advice)
}

// Unwrap is the broker's refusal, an amqp.Error.
func (e *AccessError) Unwrap() error { return e.err }

// InUseError says that nothing was deleted, because queues hold events or have consumers.
type InUseError struct {
	// Queues that are in use, with what they hold.
	Queues []State
}

// Error names the queues and what is in them.
func (e *InUseError) Error() string {
	uses := make([]string, 0, len(e.Queues))
	for _, queue := range e.Queues {
		uses = append(uses, fmt.Sprintf("%s (%d messages, %d consumers)", queue.Name, queue.Messages, queue.Consumers))
	}
	return "in use, nothing was deleted: queue " + strings.Join(uses, ", queue ")
}
