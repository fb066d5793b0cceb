// Package bustest is the suite that every bus has to pass: what package bus promises, as checks that fail
// where a bus does not keep it.
//
//	func TestMyBus(t *testing.T) {
//		bustest.Run(t, func(t *testing.T, spec topology.Spec) bus.Bus { return mybus.New(spec) })
//	}
package bustest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/topology"
)

// patience bounds each check.
const patience = time.Minute

// Check is one promise. Do returns an error where the bus of the environment does not keep it.
type Check struct {
	Name string
	Do   func(ctx context.Context, env *Env) error
}

// Run puts a bus through all checks. Open makes one with this topology, for one check; what it leaves behind
// is for t.Cleanup. The names in the topology are used by nobody else.
func Run(t *testing.T, open func(t *testing.T, spec topology.Spec) bus.Bus) {
	t.Helper()
	for _, check := range Checks() {
		t.Run(strings.ReplaceAll(check.Name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			env := NewEnv()
			env.Bus = open(t, env.Spec)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := check.Do(ctx, env); err != nil {
				t.Errorf("%s: %v", check.Name, err)
			}
		})
	}
}

// Env is what a check works with.
type Env struct {
	Bus  bus.Bus
	Spec topology.Spec
	// Topic has a log, the groups email and analytics, and feeds Fed. Jobs is fed by nothing.
	Topic, Fed, Jobs string
}

const maxAttempts = 3

// NewEnv makes an environment whose bus is still missing.
func NewEnv() *Env {
	prefix := "bustest-" + strings.ToLower(rand.Text()[:10]) + "."
	retry := []time.Duration{50 * time.Millisecond}
	return &Env{
		Topic: prefix + "orders", Fed: prefix + "payments", Jobs: prefix + "jobs",
		Spec: topology.Spec{
			Topics: map[string]topology.Topic{"orders": {
				Log: &topology.Log{}, Groups: []string{"email", "analytics"}, Queues: []string{"payments"},
			}},
			Queues: map[string]topology.Queue{
				"payments":         {Retry: retry, MaxAttempts: maxAttempts},
				"jobs":             {Retry: retry, MaxAttempts: maxAttempts},
				"orders.email":     {Retry: retry, MaxAttempts: maxAttempts},
				"orders.analytics": {Retry: retry, MaxAttempts: maxAttempts},
			},
		}.WithPrefix(prefix),
	}
}
