package topology

import (
	"context"
	"errors"
	"maps"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"
)

// argExclusive is what RabbitMQ's documentation calls the flag that its 405 is about.
const argExclusive = "exclusive"

// maxProbes bounds the search for differences: RabbitMQ compares no more than 25 arguments.
const maxProbes = 80

// declaration is everything that is compared of an exchange or a queue.
type declaration struct {
	kind         Kind
	name         string
	exchangeType string
	durable      bool
	autoDelete   bool
	internal     bool
	args         amqp.Table
}

func (e Exchange) declaration() declaration {
	return declaration{kind: KindExchange, name: e.Name, exchangeType: e.Type, durable: true}
}

func (q QueueDef) declaration() declaration {
	return declaration{kind: KindQueue, name: q.Name, durable: true, args: amqp.Table(q.Arguments)}
}

// value is that of an argument by the name the broker has for it, nil if it is not set.
func (d declaration) value(argument string) any {
	switch argument {
	case "durable":
		return d.durable
	case "auto_delete":
		return d.autoDelete
	case "internal":
		return d.internal
	case "type":
		return d.exchangeType
	case argExclusive:
		return false
	}
	return d.args[argument]
}

// set is the opposite of value. It says false where the argument cannot have that value.
func (d *declaration) set(argument string, value any) bool {
	flag, isFlag := value.(bool)
	switch argument {
	case "durable":
		d.durable = flag
		return isFlag
	case "auto_delete":
		d.autoDelete = flag
		return isFlag
	case "internal":
		d.internal = flag
		return isFlag
	case "type":
		name, ok := value.(string)
		d.exchangeType = name
		return ok
	}
	if value == nil {
		delete(d.args, argument)
		return true
	}
	d.args[argument] = value
	return true
}

// guard is an argument that no object can be created with, and that is not compared, or is
// compared last. A declare that has one can find out what differs and can never create
// anything, even if the object is deleted the moment before.
type guard struct {
	argument string
	value    any
}

// guards for a kind of object. Quorum queues and streams have no priorities, and so do not
// compare the first one; classic queues do, and do not compare the second. Neither is an
// integer, as it would have to be. The alternate exchange, which would have to be a name, is the
// only argument of exchanges that is compared, after everything else.
func guards(kind Kind) []guard {
	if kind == KindExchange {
		return []guard{{"alternate-exchange", int64(1)}}
	}
	return []guard{{"x-max-priority", "evdemo-compares"}, {"x-initial-cluster-size", "evdemo-compares"}}
}

// probe finds out how an object that exists differs from what is wanted. The broker names one
// argument at a time; the probe takes over the value it names and declares again, until there is
// nothing left to name.
type probe struct {
	want     declaration
	try      declaration
	guards   []guard
	bare     bool // send the first declare without a guard
	asked    map[string]int
	conflict *ConflictError
}

func newProbe(want declaration) *probe {
	try := want
	try.args = maps.Clone(want.args)
	if try.args == nil {
		try.args = amqp.Table{}
	}
	return &probe{
		want: want, try: try, guards: guards(want.kind), asked: map[string]int{},
		conflict: &ConflictError{Kind: want.kind, Name: want.name},
	}
}

// next is the declaration to send.
func (p *probe) next() declaration {
	if len(p.guards) == 0 || p.bare {
		return p.try
	}
	guarded := p.try
	guarded.args = maps.Clone(p.try.args)
	guarded.args[p.guards[0].argument] = p.guards[0].value
	return guarded
}

// learn takes the broker's answer to next and says whether the search is over.
func (p *probe) learn(a answer) (done bool) {
	p.bare = false
	if len(p.guards) == 0 || a.argument != p.guards[0].argument {
		return p.record(a) || a.argument == argExclusive
	}
	p.guards = p.guards[1:]
	if a.have != nil {
		return p.record(a) || p.want.kind == KindExchange
	}
	return p.want.kind == KindExchange && !a.unknown
}

// record notes a difference, or more about one, and takes over what exists.
func (p *probe) record(a answer) (done bool) {
	p.asked[a.argument]++
	i := slices.IndexFunc(p.conflict.Differences, func(d Difference) bool { return d.Argument == a.argument })
	if i < 0 {
		i = len(p.conflict.Differences)
		p.conflict.Differences = append(p.conflict.Differences, Difference{
			Argument: a.argument, Want: p.want.value(a.argument),
		})
	}
	have, known := p.guess(a)
	p.conflict.Differences[i].Have = have
	if !known || !p.try.set(a.argument, have) {
		p.conflict.Differences[i].Have = nil
		p.conflict.Differences[i].HaveUnknown = true
		p.conflict.Incomplete = true
		return true
	}
	return false
}

// guess is the value to try for an argument. Where the broker's answer was cut short, that is
// the shortest there is, to leave more room for the next answer; where it names the value that
// was just tried, the same as another type.
func (p *probe) guess(a answer) (any, bool) {
	switch {
	case p.asked[a.argument] > 3:
		return nil, false
	case a.unknown && p.asked[a.argument] == 1 && p.try.args[a.argument] != "" && isOptional(a.argument):
		return "", true
	case a.unknown:
		return nil, false
	case p.asked[a.argument] > 1 && a.have == p.try.value(a.argument):
		return otherType(a.have)
	}
	return a.have, true
}

// isOptional is whether an argument is one of the table, which takes any value when compared.
func isOptional(argument string) bool {
	return !slices.Contains([]string{"durable", "auto_delete", "internal", "type"}, argument)
}

// compare says whether an object exists and, if it does, whether it is what is wanted: conflict
// is nil then. It creates nothing, except that a client that is about to create may.
func (c *client) compare(ctx context.Context, want declaration) (exists bool, conflict *ConflictError, err error) {
	p := newProbe(want)
	// The guard of exchanges is refused even if nothing differs, and brokers log what they refuse.
	p.bare = c.creating && want.kind == KindExchange
	state, err := c.inspect(ctx, want.kind, want.name)
	if err != nil || !state.Exists {
		return false, nil, err
	}
	for range maxProbes {
		sent := p.next()
		err := c.declare(ctx, sent)
		if err == nil {
			return true, p.result(), nil
		}
		if a, ok := p.answer(err, sent); ok {
			if p.learn(a) {
				return true, p.result(), nil
			}
			continue
		}
		// Either it was deleted in the meantime, or the broker refuses for another reason.
		state, inspectErr := c.inspect(ctx, want.kind, want.name)
		switch {
		case inspectErr == nil && !state.Exists:
			return false, nil, nil
		case inspectErr != nil, len(p.guards) == 0, !hasCode(err, amqp.PreconditionFailed):
			return true, nil, explain("compare", want.kind, want.name, inspectErr == nil, err)
		}
		p.guards = nil // a broker that looks at the guard first: go without
	}
	p.conflict.Incomplete = true
	return true, p.result(), nil
}

// answer is what the broker's refusal says about the object that exists; false if nothing.
func (p *probe) answer(err error, sent declaration) (answer, bool) {
	refusal, ok := errors.AsType[*amqp.Error](err)
	switch {
	case !ok:
		return answer{}, false
	case refusal.Code == amqp.ResourceLocked: // it belongs to a connection
		return answer{argument: argExclusive, have: true}, true
	case refusal.Code != amqp.PreconditionFailed:
		return answer{}, false
	}
	return readAnswer(refusal.Reason, sent.kind, sent.name, sent.value)
}

// result is the conflict, or nil if there is none.
func (p *probe) result() *ConflictError {
	if len(p.conflict.Differences) == 0 {
		return nil
	}
	for i, d := range p.conflict.Differences {
		// A queue that was declared without a type is a classic one; RabbitMQ 3 does not say so.
		if d.Argument == argQueueType && d.Have == nil && !d.HaveUnknown {
			p.conflict.Differences[i].Have = "classic"
		}
	}
	return p.conflict
}
