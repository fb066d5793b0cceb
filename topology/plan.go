package topology

import (
	"context"
	"errors"
)

// Action is what applying resources would do with one object.
type Action string

// The actions of a plan.
const (
	// ActionCreate: it does not exist and would be created.
	ActionCreate Action = "create"
	// ActionKeep: it exists as it is wanted.
	ActionKeep Action = "keep"
	// ActionConflict: it exists with other arguments, so that nothing would be done at all.
	ActionConflict Action = "conflict"
	// ActionEnsure: whether this binding exists cannot be told over AMQP; it would be made, and
	// making it again changes nothing.
	ActionEnsure Action = "ensure"
)

// Plan is what applying resources would do, one change per object, in the order of the resources.
type Plan struct {
	Changes []Change `json:"changes"`
}

// Change is what would be done with one object.
type Change struct {
	Kind Kind `json:"kind"`
	// Name of the object; of a binding "orders -> payments".
	Name string `json:"name"`
	// Type of an exchange or queue: fanout, quorum or stream. Empty for a binding.
	Type   string `json:"type,omitempty"`
	Action Action `json:"action"`
	// Differences of a conflict; Incomplete says that more may differ.
	Differences []Difference `json:"differences,omitempty"`
	Incomplete  bool         `json:"incomplete,omitempty"`
}

// Plan says what [Resources.Apply] would do. It creates and changes nothing, and it is true of
// the moment: others may create and delete meanwhile. Errors are those of Apply, except that
// conflicts are in the Plan; see [Plan.Err].
//
// RabbitMQ shows what differs only by refusing a declare, and logs that as a channel error: an
// exchange, and a queue that is missing, leaves one such line in the broker's log, a conflict one
// per difference.
func (r Resources) Plan(ctx context.Context, conn Channels) (Plan, error) {
	if err := r.Validate(); err != nil {
		return Plan{}, err
	}
	return withClient(ctx, conn, func(c *client) (Plan, error) { return r.plan(ctx, c) })
}

func (r Resources) plan(ctx context.Context, c *client) (Plan, error) {
	changes := make([]Change, 0, len(r.Exchanges)+len(r.Queues)+len(r.Bindings))
	created := map[Kind]map[string]bool{KindExchange: {}, KindQueue: {}}
	compare := func(d declaration, typeName string) error {
		exists, conflict, err := c.compare(ctx, d)
		if err != nil {
			return err
		}
		change := Change{Kind: d.kind, Name: d.name, Type: typeName, Action: ActionKeep}
		switch {
		case conflict != nil:
			change.Action = ActionConflict
			change.Differences, change.Incomplete = conflict.Differences, conflict.Incomplete
		case !exists:
			change.Action = ActionCreate
			created[d.kind][d.name] = true
		}
		changes = append(changes, change)
		return nil
	}
	for _, exchange := range r.Exchanges {
		if err := compare(exchange.declaration(), exchange.Type); err != nil {
			return Plan{}, err
		}
	}
	for _, queue := range r.Queues {
		if err := compare(queue.declaration(), queue.Type()); err != nil {
			return Plan{}, err
		}
	}
	for _, binding := range r.Bindings {
		change := Change{Kind: KindBinding, Name: binding.String(), Action: ActionEnsure}
		if created[KindExchange][binding.Source] || created[binding.To][binding.Destination] {
			change.Action = ActionCreate
		}
		changes = append(changes, change)
	}
	return Plan{Changes: changes}, nil
}

// Count is how many changes are of an action.
func (p Plan) Count(action Action) int {
	n := 0
	for _, change := range p.Changes {
		if change.Action == action {
			n++
		}
	}
	return n
}

// Err is nil if nothing conflicts, and otherwise all [*ConflictError]s, joined if there are
// several.
func (p Plan) Err() error {
	var conflicts []error
	for _, change := range p.Changes {
		if change.Action == ActionConflict {
			conflicts = append(conflicts, &ConflictError{
				Kind: change.Kind, Name: change.Name,
				Differences: change.Differences, Incomplete: change.Incomplete,
			})
		}
	}
	if len(conflicts) == 1 {
		return conflicts[0]
	}
	return errors.Join(conflicts...)
}

// creates is the names of what a kind has to be created.
func (p Plan) creates(kind Kind) map[string]bool {
	names := map[string]bool{}
	for _, change := range p.Changes {
		if change.Kind == kind && change.Action == ActionCreate {
			names[change.Name] = true
		}
	}
	return names
}
