// Package filter decides over events by an expression that a person wrote.
package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"

	"github.com/evdemo/evdemo/event"
)

// ErrExpression is wrapped by what Compile returns for an expression that cannot be used.
var ErrExpression = errors.New("invalid filter")

// Filter is a compiled expression over an event, such as
//
//	type == "order.created" && data.amount > 50
//
// The language is that of github.com/expr-lang/expr. An expression sees id, source, type, subject,
// time, datacontenttype, dataschema, extensions (a map), headers (a map) and data: the decoded JSON,
// or the text where the data is not JSON. A Filter may be used by several goroutines.
type Filter struct {
	program *vm.Program
	uses    names
}

// environment is what an expression sees.
type environment struct {
	ID              string         `expr:"id"`
	Source          string         `expr:"source"`
	Type            string         `expr:"type"`
	Subject         string         `expr:"subject"`
	Time            time.Time      `expr:"time"`
	DataContentType string         `expr:"datacontenttype"`
	DataSchema      string         `expr:"dataschema"`
	Extensions      map[string]any `expr:"extensions"`
	Headers         map[string]any `expr:"headers"`
	Data            any            `expr:"data"`
	Failure         Failure        `expr:"failure"`
}

// Failure is what an expression sees of why and when an event was dead-lettered.
type Failure struct {
	Reason       string    `expr:"reason"`
	Error        string    `expr:"error"`
	Attempts     int       `expr:"attempts"`
	Redrives     int       `expr:"redrives"`
	FirstFailure time.Time `expr:"first_failure"`
	LastFailure  time.Time `expr:"last_failure"`
	Queue        string    `expr:"queue"`
	Exchange     string    `expr:"exchange"`
	RoutingKey   string    `expr:"routing_key"`
	Worker       string    `expr:"worker"`
	ExitCode     any       `expr:"exit_code"` // an int, or nil where no command failed
	Stderr       string    `expr:"stderr"`
}

// Compile checks an expression and makes it ready. The empty expression matches everything.
func Compile(expression string) (*Filter, error) {
	if expression == "" {
		return &Filter{}, nil
	}
	names := &names{}
	program, err := expr.Compile(expression, expr.Env(environment{}), expr.AsBool(), expr.Patch(names))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExpression, err)
	}
	return &Filter{program: program, uses: *names}, nil
}

// names notes which names an expression uses, so that what costs something is worked out only where it
// is wanted.
type names struct{ data, failure bool }

func (n *names) Visit(node *ast.Node) {
	if id, ok := (*node).(*ast.IdentifierNode); ok {
		n.data = n.data || id.Value == "data" || id.Value == "$env"
		n.failure = n.failure || id.Value == "failure" || id.Value == "$env"
	}
}

// Match tells whether the expression holds for an event. An error means that the expression
// could not be worked out for this one, for instance because a field is not there to compare.
func (f *Filter) Match(e event.Event, headers map[string]any) (bool, error) {
	return f.MatchFailed(e, headers, func() Failure { return Failure{} })
}

// MatchFailed is Match for an event that has failed. The expression sees the history of that under the
// name failure, which is empty with Match; it is asked for only where the expression uses it.
func (f *Filter) MatchFailed(e event.Event, headers map[string]any, failure func() Failure) (bool, error) {
	if f.program == nil {
		return true, nil
	}
	env := environment{
		ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time,
		DataContentType: e.DataContentType, DataSchema: e.DataSchema,
		Extensions: e.Extensions, Headers: headers,
	}
	if f.uses.failure {
		env.Failure = failure()
	}
	if f.uses.data && json.Unmarshal(e.Data, &env.Data) != nil {
		env.Data = string(e.Data)
	}
	result, err := expr.Run(f.program, env)
	if err != nil {
		return false, err
	}
	matched, _ := result.(bool)
	return matched, nil
}
