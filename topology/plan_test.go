package topology_test

import (
	"maps"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/topology"
)

// TestQueueConflicts: of a queue that exists, every argument that differs is found, out of those
// that a queue of its type has.
func TestQueueConflicts(t *testing.T) {
	t.Parallel()
	type difference = topology.Difference
	letters := func(queue string, others amqp.Table) amqp.Table {
		args := amqp.Table{
			"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue + ".dlq",
			"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish", "x-delivery-limit": int32(20),
		}
		for name, value := range others {
			args[name] = value
			if value == nil {
				delete(args, name)
			}
		}
		return args
	}
	missing := func(queue string) []difference {
		return []difference{
			{Argument: "x-dead-letter-exchange", Want: ""},
			{Argument: "x-dead-letter-routing-key", Want: queue + ".dlq"},
			{Argument: "x-overflow", Want: "reject-publish"},
		}
	}
	tests := map[string]struct {
		durable, autoDelete, exclusive bool
		args                           func(queue string) amqp.Table
		want                           func(queue string) []difference
	}{
		"as wanted, with narrow integers": {
			durable: true,
			args:    func(q string) amqp.Table { return letters(q, nil) },
			want:    func(string) []difference { return nil },
		},
		"classic": {
			durable: true,
			args:    func(string) amqp.Table { return nil },
			want: func(q string) []difference {
				return append(missing(q), difference{Argument: "x-queue-type", Want: "quorum", Have: "classic"})
			},
		},
		"classic with priorities": {
			durable: true,
			args: func(string) amqp.Table {
				return amqp.Table{"x-max-priority": int32(5), "x-expires": int64(600_000), "x-queue-mode": "lazy"}
			},
			want: func(q string) []difference {
				return append(missing(q),
					difference{Argument: "x-queue-type", Want: "quorum", Have: "classic"},
					difference{Argument: "x-expires", Have: int64(600_000)},
					difference{Argument: "x-max-priority", Have: int64(5)},
					difference{Argument: "x-queue-mode", Have: "lazy"},
				)
			},
		},
		"classic, transient, auto-delete": {
			autoDelete: true,
			args:       func(string) amqp.Table { return amqp.Table{"x-message-ttl": int64(60_000)} },
			want: func(q string) []difference {
				return append(missing(q),
					difference{Argument: "durable", Want: true, Have: false},
					difference{Argument: "auto_delete", Want: false, Have: true},
					difference{Argument: "x-queue-type", Want: "quorum", Have: "classic"},
					difference{Argument: "x-message-ttl", Have: int64(60_000)},
				)
			},
		},
		"plain quorum": {
			durable: true,
			args:    func(string) amqp.Table { return amqp.Table{"x-queue-type": "quorum"} },
			want: func(q string) []difference {
				return append(missing(q),
					difference{Argument: "x-dead-letter-strategy", Want: "at-least-once"},
					difference{Argument: "x-delivery-limit", Want: int64(20)},
				)
			},
		},
		"quorum with other values": {
			durable: true,
			args: func(q string) amqp.Table {
				return letters(q, amqp.Table{
					"x-delivery-limit": int64(5), "x-dead-letter-exchange": "it's 'dead'",
					"x-dead-letter-routing-key": nil, "x-single-active-consumer": true, "x-max-length": int64(10),
				})
			},
			want: func(q string) []difference {
				return []difference{
					{Argument: "x-delivery-limit", Want: int64(20), Have: int64(5)},
					{Argument: "x-dead-letter-exchange", Want: "", Have: "it's 'dead'"},
					{Argument: "x-dead-letter-routing-key", Want: q + ".dlq"},
					{Argument: "x-single-active-consumer", Have: true},
					{Argument: "x-max-length", Have: int64(10)},
				}
			},
		},
		"stream": {
			durable: true,
			args:    func(string) amqp.Table { return amqp.Table{"x-queue-type": "stream", "x-max-age": "1D"} },
			want: func(string) []difference {
				return []difference{
					{Argument: "x-queue-type", Want: "quorum", Have: "stream"},
					{Argument: "x-max-age", Have: "1D"},
				}
			},
		},
		"of another connection": {
			exclusive: true,
			args:      func(string) amqp.Table { return nil },
			want: func(string) []difference {
				return []difference{{Argument: "exclusive", Want: false, Have: true}}
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, other := dial(t), dial(t)
			queue := brokertest.Name(t, "conflict")
			r := topology.Resources{Queues: topology.Default().QueueResources(queue).Queues[1:2]}
			_, err := channel(t, other).QueueDeclare(queue, tt.durable, tt.autoDelete, tt.exclusive, false, tt.args(queue))
			require.NoError(t, err)
			t.Cleanup(func() {
				_, err := channel(t, other).QueueDelete(queue, false, false, false)
				require.NoError(t, err)
			})
			requireConflict(t, conn, r, tt.want(queue))
		})
	}
}

func TestExchangeConflicts(t *testing.T) {
	t.Parallel()
	type difference = topology.Difference
	tests := map[string]struct {
		exchangeType                  string
		durable, autoDelete, internal bool
		args                          amqp.Table
		want                          []difference
	}{
		"as wanted":  {exchangeType: "fanout", durable: true},
		"other type": {exchangeType: "topic", durable: true, want: []difference{{Argument: "type", Want: "fanout", Have: "topic"}}},
		"alternate": {
			exchangeType: "fanout", durable: true, args: amqp.Table{"alternate-exchange": "lost"},
			want: []difference{{Argument: "alternate-exchange", Have: "lost"}},
		},
		"everything": {
			exchangeType: "headers", autoDelete: true, internal: true, args: amqp.Table{"alternate-exchange": "lost"},
			want: []difference{
				{Argument: "type", Want: "fanout", Have: "headers"},
				{Argument: "durable", Want: true, Have: false},
				{Argument: "auto_delete", Want: false, Have: true},
				{Argument: "internal", Want: false, Have: true},
				{Argument: "alternate-exchange", Have: "lost"},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t)
			exchange := brokertest.Name(t, "conflict")
			r := topology.Resources{Exchanges: []topology.Exchange{{Name: exchange, Type: "fanout", Role: topology.RoleTopic}}}
			require.NoError(t, channel(t, conn).ExchangeDeclare(
				exchange, tt.exchangeType, tt.durable, tt.autoDelete, tt.internal, false, tt.args))
			remove(t, conn, r)
			requireConflict(t, conn, r, tt.want)
		})
	}
}

// requireConflict plans and applies one object that exists.
func requireConflict(t *testing.T, conn *amqp.Connection, r topology.Resources, want []topology.Difference) {
	t.Helper()
	plan, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	require.Len(t, plan.Changes, 1)
	change := plan.Changes[0]
	applied := r.Apply(t.Context(), conn)
	assert.ElementsMatch(t, want, change.Differences)
	assert.False(t, change.Incomplete)
	if len(want) == 0 {
		assert.Equal(t, topology.ActionKeep, change.Action)
		require.NoError(t, plan.Err())
		require.NoError(t, applied)
		return
	}
	assert.Equal(t, topology.ActionConflict, change.Action)
	var conflict *topology.ConflictError
	require.ErrorAs(t, applied, &conflict)
	assert.Equal(t, change.Kind, conflict.Kind)
	assert.Equal(t, change.Name, conflict.Name)
	assert.ElementsMatch(t, want, conflict.Differences)
	assert.Equal(t, plan.Err(), applied)
}

// TestConflictStopsEverything: where one object conflicts nothing is created, and all conflicts
// are told.
func TestConflictStopsEverything(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, prefix := unique(t, conn, topology.Default())
	ch := channel(t, conn)
	_, err := ch.QueueDeclare(prefix+"payments", true, false, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.ExchangeDeclare(prefix+"orders", "direct", true, false, false, false, nil))

	r := spec.Resources()
	err = r.Apply(t.Context(), conn)
	require.ErrorContains(t, err, `exchange `+prefix+`orders exists with other arguments: type is "direct", wanted "fanout"`)
	require.ErrorContains(t, err, `queue `+prefix+`payments exists with other arguments: `)
	require.ErrorContains(t, err, `x-queue-type is "classic", wanted "quorum"`)
	require.ErrorContains(t, err, `keep it and take another name, or save what is in it, delete it and apply again`)

	plan, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	assert.Equal(t, 2, plan.Count(topology.ActionConflict))
	assert.Equal(t, len(r.Exchanges)+len(r.Queues)-2, plan.Count(topology.ActionCreate)-
		bindingsToCreate(plan), "nothing was created")
}

func bindingsToCreate(plan topology.Plan) int {
	n := 0
	for _, change := range plan.Changes {
		if change.Kind == topology.KindBinding && change.Action == topology.ActionCreate {
			n++
		}
	}
	return n
}

// TestConflictWithALongName: the broker shortens its answers to 255 bytes.
func TestConflictWithALongName(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		bytes int
		want  topology.Difference
		more  bool
	}{
		"the other value fits": {80, topology.Difference{Argument: "x-dead-letter-routing-key", Have: "elsewhere"}, false},
		"no value fits":        {200, topology.Difference{Argument: "x-dead-letter-routing-key", HaveUnknown: true}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t)
			queue := brokertest.Name(t, "long")
			queue += strings.Repeat("x", tt.bytes-len(queue))
			def := topology.Default().QueueResources(queue).Queues[1]
			r := topology.Resources{Queues: []topology.QueueDef{def}}
			remove(t, conn, r)
			args := maps.Clone(amqp.Table(def.Arguments))
			args["x-dead-letter-routing-key"] = "elsewhere"
			_, err := channel(t, conn).QueueDeclare(queue, true, false, false, false, args)
			require.NoError(t, err)

			plan, err := r.Plan(t.Context(), conn)
			require.NoError(t, err)
			tt.want.Want = queue + ".dlq"
			require.Len(t, plan.Changes, 1)
			assert.Equal(t, []topology.Difference{tt.want}, plan.Changes[0].Differences)
			assert.Equal(t, tt.more, plan.Changes[0].Incomplete)
			if tt.more {
				require.ErrorContains(t, plan.Err(), "is something else, wanted")
				require.ErrorContains(t, plan.Err(), "and more may differ")
			}
		})
	}
}

// TestLogConflict: a stream is compared by its own arguments.
func TestLogConflict(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, prefix := unique(t, conn, topology.Spec{Topics: map[string]topology.Topic{"t": {Log: &topology.Log{}}}})
	require.NoError(t, spec.Resources().Apply(t.Context(), conn))
	spec.Topics[prefix+"t"] = topology.Topic{Log: &topology.Log{MaxSize: 50_000_000}}
	plan, err := spec.Resources().Plan(t.Context(), conn)
	require.NoError(t, err)
	var found []topology.Difference
	for _, change := range plan.Changes {
		found = append(found, change.Differences...)
	}
	assert.ElementsMatch(t, []topology.Difference{
		{Argument: "x-max-length-bytes", Want: int64(50_000_000), Have: int64(1_000_000_000)},
		{Argument: "x-stream-max-segment-size-bytes", Want: int64(25_000_000)},
	}, found)
}
