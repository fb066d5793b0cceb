package topology_test

import (
	"time"

	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/topology"
)

// drawSpec draws a topology that is valid.
func drawSpec(t *rapid.T) topology.Spec {
	return rapid.Custom(drawAnySpec).Filter(func(s topology.Spec) bool {
		return s.Validate() == nil && len(s.Topics)+len(s.Queues) > 0
	}).Draw(t, "spec")
}

// drawAnySpec draws a topology of few names, so that they clash now and then.
func drawAnySpec(t *rapid.T) topology.Spec {
	name := rapid.OneOf(
		rapid.SampledFrom([]string{"a", "b", "a.b", "orders", "payments", "true", "null", "7", "x y", "ü: #", `"`, "a.log", "log"}),
		rapid.StringMatching(`[a-z]{1,5}(\.[a-z]{1,3})?`),
	)
	names := rapid.SliceOfNDistinct(name, 0, 3, rapid.ID[string])
	topic := rapid.Custom(func(t *rapid.T) topology.Topic {
		return topology.Topic{
			Log:    rapid.Ptr(rapid.Custom(drawLog), true).Draw(t, "log"),
			Groups: orNil(names.Draw(t, "groups")),
			Queues: orNil(names.Draw(t, "queues")),
		}
	})
	return topology.Spec{
		Topics: orNilMap(rapid.MapOfN(name, topic, 0, 3).Draw(t, "topics")),
		Queues: orNilMap(rapid.MapOfN(name, rapid.Custom(drawQueue), 0, 3).Draw(t, "queues")),
	}
}

func drawLog(t *rapid.T) topology.Log {
	return topology.Log{
		MaxAge:  time.Duration(rapid.IntRange(1, 1_000_000).Draw(t, "seconds")) * time.Second,
		MaxSize: rapid.Int64Range(1_000_000, 5_000_000_000).Draw(t, "size"),
	}
}

func drawQueue(t *rapid.T) topology.Queue {
	delay := rapid.Map(rapid.IntRange(1, 100_000), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
	queue := topology.Queue{
		MaxAttempts:  rapid.IntRange(0, 9).Draw(t, "attempts"),
		SingleActive: rapid.Bool().Draw(t, "single-active"),
	}
	if rapid.Bool().Draw(t, "has retry") {
		queue.Retry = rapid.SliceOfN(delay, 0, 3).Draw(t, "retry")
	}
	return queue
}

// orNil makes an empty slice nil, as a file has it that says nothing.
func orNil(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
}

func orNilMap[V any](m map[string]V) map[string]V {
	if len(m) == 0 {
		return nil
	}
	return m
}

func noRetry() []time.Duration { return []time.Duration{} }

func shortRetry() []time.Duration { return []time.Duration{50 * time.Millisecond} }
