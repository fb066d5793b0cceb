// Package ledger keeps account of events outside the code that moves them: what was attempted,
// what outcome the publisher claimed for each, and which effects each consumer really had. It
// counts by id, so that a loss and a duplicate never cancel out.
package ledger

import (
	"fmt"
	"slices"
	"sync"
)

// Ledger is the account of one run. Its methods may be called from several goroutines.
type Ledger struct {
	mu        sync.Mutex
	attempted map[string]struct{}
	outcomes  map[string]string
	counts    map[string]int
	consumers map[string]*consumer
	order     []string
}

type consumer struct {
	effects map[string]int
	members map[string]int // effects by member, such as the workers of a queue
	order   []string
}

// New makes an empty ledger.
func New() *Ledger {
	return &Ledger{
		attempted: map[string]struct{}{}, outcomes: map[string]string{},
		counts: map[string]int{}, consumers: map[string]*consumer{},
	}
}

// Attempt notes that somebody set out to publish an event.
func (l *Ledger) Attempt(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempted[id] = struct{}{}
}

// Attempts is how many events somebody set out to publish, without the cost of a whole account.
func (l *Ledger) Attempts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.attempted)
}

// Outcome notes what the publisher claims became of an event.
func (l *Ledger) Outcome(id, outcome string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[id] = outcome
	l.counts[outcome]++
}

// Expect announces a consumer, which is to have one effect for every attempted event, and its
// members, so that the account lists them also where they had none.
func (l *Ledger) Expect(name string, members ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.consumers[name] = &consumer{effects: map[string]int{}, members: map[string]int{}, order: members}
	l.order = append(l.order, name)
}

// Effect notes that a member of an expected consumer had an effect for an event.
func (l *Ledger) Effect(name, member, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.consumers[name]
	c.effects[id]++
	c.members[member]++
}

// Account is the state of a ledger.
type Account struct {
	Attempted int            `json:"attempted"`
	Outcomes  map[string]int `json:"outcomes"`
	// Unaccounted are attempted events without an outcome, or with two.
	Unaccounted int        `json:"unaccounted"`
	Consumers   []Consumer `json:"consumers"`
}

// Consumer is the account of one consumer.
type Consumer struct {
	Name string `json:"name"`
	// Effects counts distinct events with an effect; Missing those attempted without one; Extra
	// effects beyond the first for an event, and effects for events that nobody attempted.
	Effects int      `json:"effects"`
	Missing int      `json:"missing"`
	Extra   int      `json:"extra"`
	Members []Member `json:"members"`
	// MissingIDs are some of the missing events, at most ten.
	MissingIDs []string `json:"missing_ids,omitempty"`
}

// Member is one process of a consumer.
type Member struct {
	Name    string `json:"name"`
	Effects int    `json:"effects"`
}

// Account works out the state.
func (l *Ledger) Account() Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := Account{Attempted: len(l.attempted), Outcomes: map[string]int{}}
	total := 0
	for outcome, n := range l.counts {
		a.Outcomes[outcome] = n
		total += n
	}
	for id := range l.attempted {
		if _, ok := l.outcomes[id]; !ok {
			a.Unaccounted++
		}
	}
	a.Unaccounted += total - len(l.outcomes)
	for _, name := range l.order {
		a.Consumers = append(a.Consumers, l.account(name))
	}
	return a
}

func (l *Ledger) account(name string) Consumer {
	const named = 10
	c := l.consumers[name]
	account := Consumer{Name: name}
	for _, member := range c.order {
		account.Members = append(account.Members, Member{member, c.members[member]})
	}
	for id, n := range c.effects {
		if _, ok := l.attempted[id]; !ok {
			account.Extra += n
			continue
		}
		account.Effects++
		account.Extra += n - 1
	}
	for id := range l.attempted {
		if c.effects[id] == 0 {
			account.Missing++
			account.MissingIDs = append(account.MissingIDs, id)
		}
	}
	slices.Sort(account.MissingIDs)
	account.MissingIDs = account.MissingIDs[:min(len(account.MissingIDs), named)]
	return account
}

// Done tells how many attempted events a consumer has had an effect for, without the cost of a
// whole account.
func (l *Ledger) Done(name string) (distinct int, members []Member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.consumers[name]
	for _, member := range c.order {
		members = append(members, Member{member, c.members[member]})
	}
	return len(c.effects), members
}

// Claim is something that a run is to prove, and whether it did.
type Claim struct {
	Text  string `json:"claim"`
	Holds bool   `json:"holds"`
	// Figures are what it was decided by.
	Figures string `json:"figures"`
}

// Claimf makes a claim with its figures.
func Claimf(holds bool, text, figures string, args ...any) Claim {
	return Claim{Text: text, Holds: holds, Figures: fmt.Sprintf(figures, args...)}
}
