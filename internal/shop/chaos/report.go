package chaos

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/evdemo/evdemo/internal/shop/check"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
)

// What must hold besides the rules of package check.
const (
	AllThere    check.Rule = "every order that was placed is in the event store"
	Rest        check.Rule = "the shop comes to rest by itself"
	Published   check.Rule = "every event in the event store is published"
	Empty       check.Rule = "the queues are empty in the end"
	NoneGivenUp check.Rule = "no event is given up"
	NoCrash     check.Rule = "a part ends when it is told to or killed, not by itself, and without an error"
)

// shown is how many findings a report has in full.
const shown = 20

// Report is what came of a proof: what is in the event store and the sinks, what was broken, and what is wrong.
type Report struct {
	check.Report

	Flow   service.Flow `json:"saga"`
	Seed   uint64       `json:"seed"`
	Broker string       `json:"broker"` // name and version
	Placed int          `json:"placed"`
	// Processes is how many there were at a time.
	Processes int `json:"processes"`
	// Kills are those of parts by SIGKILL, those of all together among them.
	Kills int `json:"kills"`
	// Stops and Freezes are those of parts by SIGTERM and SIGSTOP.
	Stops       int `json:"stops"`
	Freezes     int `json:"freezes"`
	BrokerKills int `json:"broker_kills"`
	// Handled, Again and Failed are what parts told of that ended in good order: events handled, those of them that a sink had
	// already and refused to have twice, and attempts that failed.
	Handled int64 `json:"handled"`
	Again   int64 `json:"again"`
	Failed  int64 `json:"failed"`
	// DeadLetters is how many events were given up.
	DeadLetters int `json:"dead_letters"`
	// First are some of the findings.
	First   []check.Finding `json:"first,omitempty"`
	Seconds float64         `json:"seconds"`
	Holds   bool            `json:"holds"`
}

// found keeps the first findings.
func (r *Report) found(f check.Finding) {
	if len(r.First) < shown {
		r.First = append(r.First, f)
	}
}

func (r *Report) wrong(rule check.Rule, format string, args ...any) {
	r.Findings[rule]++
	r.found(check.Finding{Rule: rule, Detail: fmt.Sprintf(format, args...)})
}

// tally counts what was done to the processes, and what they have done. Its methods may be called from several goroutines.
type tally struct {
	mu    sync.Mutex
	kinds map[kind]int
	done  system.Count
	ends  []string
}

func newTally() *tally { return &tally{kinds: map[kind]int{}} }

func (t *tally) add(k kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kinds[k]++
}

func (t *tally) of(k kind) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kinds[k]
}

func (t *tally) count(counts []system.Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range counts {
		t.done.Handled += c.Handled
		t.done.Again += c.Again
		t.done.Failed += c.Failed
	}
}

func (t *tally) crash(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends = append(t.ends, text)
}

func (t *tally) crashes() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.ends)
}

// into enters the figures into a report.
func (t *tally) into(r *Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Kills, r.Stops, r.Freezes, r.BrokerKills = t.kinds[kill], t.kinds[stop], t.kinds[freeze], t.kinds[killBroker]
	r.Handled, r.Again, r.Failed = t.done.Handled, t.done.Again, t.done.Failed
}

func isDeadLetters(queue string) bool { return strings.HasSuffix(queue, ".dlq") }
