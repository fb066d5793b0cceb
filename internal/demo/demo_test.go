package demo

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/shop/check"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker"))
}

// account is one of a tour in which all went well, but for what change does to it.
func account(change func(*ledger.Account)) ledger.Account {
	a := ledger.Account{Attempted: 10, Outcomes: map[string]int{stored: 10}, Consumers: []ledger.Consumer{
		{Name: "fraud", Effects: 10},
		{Name: "payment", Effects: 10, Members: []ledger.Member{{Name: "payment-1", Effects: 4}, {Name: "payment-2", Effects: 6}}},
		{Name: "broadcast", Effects: 10, Extra: 3},
	}}
	change(&a)
	return a
}

func TestClaimsHold(t *testing.T) {
	t.Parallel()
	for _, c := range claims(account(func(*ledger.Account) {}), check.Report{}, 0) {
		assert.True(t, c.Holds, c)
	}
}

// A proof that cannot fail proves nothing.
func TestClaimsFail(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change      func(*ledger.Account)
		found       check.Report
		unpublished int64
		want        string
	}{
		"one is not stored":        {change: func(a *ledger.Account) { a.Outcomes[stored] = 9 }, want: "every order is in the event store, where the shop keeps all that has happened, and was published from there (10 placed, 9 stored, 0 events not published)"},
		"one has no outcome":       {change: func(a *ledger.Account) { a.Unaccounted = 1 }, want: "every order is in the event store, where the shop keeps all that has happened, and was published from there (10 placed, 10 stored, 0 events not published)"},
		"some are not published":   {unpublished: 4, want: "every order is in the event store, where the shop keeps all that has happened, and was published from there (10 placed, 10 stored, 4 events not published)"},
		"fraud misses one":         {change: func(a *ledger.Account) { a.Consumers[0].Effects, a.Consumers[0].Missing = 9, 1 }, want: "fraud had every order, once (9 done, 1 missing, 0 extra)"},
		"one is charged twice":     {change: func(a *ledger.Account) { a.Consumers[1].Extra = 1 }, want: "the payment processes shared the orders, and the killed one lost none and charged none twice (10 done, 0 missing, 1 extra)"},
		"a process is idle":        {change: func(a *ledger.Account) { a.Consumers[1].Members[0].Effects = 0 }, want: "the payment processes shared the orders, and the killed one lost none and charged none twice (10 done, 0 missing, 0 extra)"},
		"the listener misses some": {change: func(a *ledger.Account) { a.Consumers[2].Missing = 2 }, want: "the process that listens heard of every order (10 done, 2 missing, 3 extra)"},
		"the check finds something": {
			found: check.Report{Orders: 10, Shipped: 9, Findings: map[check.Rule]int{check.Ends: 1}},
			want:  "a program that reads only what the shop has stored (events, data lake, analytics, search, customers) finds nothing wrong (10 orders, 9 shipped, 1 things wrong)",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.change == nil {
				test.change = func(*ledger.Account) {}
			}
			var failed []string
			for _, c := range claims(account(test.change), test.found, test.unpublished) {
				if !c.Holds {
					failed = append(failed, c.Text+" ("+c.Figures+")")
				}
			}
			assert.Equal(t, []string{test.want}, failed)
		})
	}
}

func TestScreen(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := &run{ledger: ledger.New()}
	r.screen = &screen{run: r, to: &out}
	for _, name := range r.consumers() {
		r.ledger.Expect(name, name)
	}
	r.screen.draw()
	require.Empty(t, out.String(), "this is no terminal")
	r.Live = true
	r.ledger.Effect("email", "email", "order-1")
	for range 20 {
		r.ledger.Effect("sms", "sms", "order-1")
	}
	r.screen.draw()
	require.Contains(t, out.String(), "  email      ······························     1 of 300\n")
	require.Contains(t, out.String(), "  sms        ······························     1 of 300\n", "orders count once")
	require.NotContains(t, out.String(), "\x1b")
	_, err := r.screen.Write([]byte("a line\n"))
	require.NoError(t, err)
	require.Contains(t, out.String(), "\x1b[11A\x1b[Ja line\n", "above the table")
}
