package causality_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/causality"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) //nolint:gochecknoglobals // a constant

// at is an event some milliseconds after the beginning, with what links it to others.
func at(ms int, id string, links ...string) event.Event {
	e := event.Event{ID: id, Source: "s", Type: "t." + id, Time: epoch.Add(time.Duration(ms) * time.Millisecond)}
	for i, name := range []string{event.ExtCausationID, event.ExtCorrelationID, event.ExtParentID} {
		if i < len(links) && links[i] != "" {
			e = e.WithExtension(name, links[i])
		}
	}
	return e
}

// find shows the events to a flow until it has enough.
func find(id string, events ...event.Event) *causality.Flow {
	f := causality.NewFlow(id)
	for again := true; again; again = f.Again() {
		for i, e := range events {
			f.Add("orders", int64(i), e)
		}
	}
	return f
}

func tree(tb testing.TB, f *causality.Flow) string {
	tb.Helper()
	var b bytes.Buffer
	require.NoError(tb, causality.WriteTree(&b, f.Trees()))
	return b.String()
}

func TestAFlowIsATree(t *testing.T) {
	t.Parallel()
	events := []event.Event{
		at(0, "order", "", ""),
		at(30, "shipped", "paid", "order"),
		at(10, "paid", "order", "order"),
		at(20, "mailed", "paid", "order"),
		at(5, "other", "", ""),
		at(9, "others-child", "other", "other"),
	}
	const mark = "  <- asked for"
	want := `t.order  from s  on orders  order  +0s
└─ t.paid  from s  on orders  paid  +10ms
   ├─ t.mailed  from s  on orders  mailed  +20ms
   └─ t.shipped  from s  on orders  shipped  +30ms
`
	for _, asked := range []string{"order  +0s", "paid  +10ms", "mailed  +20ms", "shipped  +30ms"} {
		id, _, _ := strings.Cut(asked, " ")
		assert.Equal(t, strings.Replace(want, asked, asked+mark, 1), tree(t, find(id, events...)))
	}
	assert.Empty(t, tree(t, find("nothing", events...)))
}

// Events that were linked by hand have a cause, or a parent, and no correlation.
func TestLinksAloneMakeAFlow(t *testing.T) {
	t.Parallel()
	events := []event.Event{at(30, "d", "", "", "c"), at(20, "c", "b"), at(10, "b", "a"), at(0, "a"), at(1, "x")}
	want := `t.a  from s  on orders  a  +0s
└─ t.b  from s  on orders  b  +10ms
   └─ t.c  from s  on orders  c  +20ms
      └─ t.d  from s  on orders  d  +30ms
`
	for _, id := range []string{"a", "b", "c", "d"} {
		got := strings.Replace(tree(t, find(id, events...)), "  <- asked for", "", 1)
		assert.Equal(t, want, got, id)
	}
}

func TestWhatIsMissingOrDouble(t *testing.T) {
	t.Parallel()
	f := causality.NewFlow("order")
	lost := at(-5, "lost", "gone", "order")
	for range 2 { // the second pass counts nothing twice
		f.Add("orders", 1, at(0, "order"))
		f.Add("orders", 2, at(0, "order"))
		f.Add("payments", 1, at(0, "order"))
		f.Add("payments", 2, lost)
	}
	assert.Equal(t, `t.lost  from s  on payments  lost  +0s  (its cause gone is in no log)
t.order  from s  on orders, payments  order  +0s  (3 copies)  <- asked for
`, tree(t, f))
	child := at(-7, "early", "order", "order")
	assert.Contains(t, tree(t, find("order", at(0, "order"), child)), "early  -7ms", "clocks differ")
}

func TestACircleEnds(t *testing.T) {
	t.Parallel()
	assert.Equal(t, `t.a  from s  on orders  a  +0s  <- asked for
└─ t.b  from s  on orders  b  +1ms
   └─ t.c  from s  on orders  c  +2ms
`, tree(t, find("a", at(0, "a", "c"), at(1, "b", "a"), at(2, "c", "b"))))
	assert.Equal(t, "t.a  from s  on orders  a  +0s  <- asked for\n", tree(t, find("a", at(0, "a", "a"))))
}

// The order in which the events are shown makes no difference, and every one of them is there.
func TestTheOrderOfTheLogsMakesNoDifference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(rt, "events")
		correlated := rapid.Bool().Draw(rt, "correlated")
		events := make([]event.Event, n)
		for i := range events {
			links := make([]string, 3)
			if i > 0 {
				links[0] = fmt.Sprint(rapid.IntRange(0, i-1).Draw(rt, "cause"))
				if correlated {
					links[1] = "0"
				}
			}
			events[i] = at(i, fmt.Sprint(i), links...)
		}
		asked := fmt.Sprint(rapid.IntRange(0, n-1).Draw(rt, "asked"))
		want := tree(t, find(asked, events...))
		if got := strings.Count(want, "\n"); got != n {
			rt.Fatalf("%d of %d events", got, n)
		}
		seed := rapid.Uint64().Draw(rt, "seed")
		shuffled := append([]event.Event{}, events...)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] }) //nolint:gosec // a test
		if got := tree(t, find(asked, shuffled...)); got != want {
			rt.Fatalf("want\n%sgot\n%s", want, got)
		}
	})
}

func TestDrawings(t *testing.T) {
	t.Parallel()
	hostile := at(3, "b", "a", "a")
	hostile.Type = "<b>\"x\"\n\x1b[31m" + strings.Repeat("y", 200)
	hostile.Subject = `C:\`
	trees := find("a", at(0, "a"), hostile).Trees()
	var b bytes.Buffer
	require.NoError(t, causality.WriteMermaid(&b, trees))
	assert.Equal(t, `flowchart LR
    n1["t.a<br/>s<br/>+0s"]
    n2["#60;b#62;#34;x#34;  [31m`+strings.Repeat("y", 88)+`…<br/>C:#92;<br/>s<br/>+3ms"]
    n1 --> n2
`, b.String())
	b.Reset()
	require.NoError(t, causality.WriteDOT(&b, trees))
	assert.Equal(t, `digraph trace {
    rankdir=LR;
    node [fontname="sans-serif", shape=box];
    n1 [label="t.a\ns\n+0s", style=bold];
    n2 [label="<b>\"x\"  [31m`+strings.Repeat("y", 88)+`…\nC:\\\ns\n+3ms"];
    n1 -> n2;
}
`, b.String())
	encoded, err := json.Marshal(trees)
	require.NoError(t, err)
	var back []*causality.Node
	require.NoError(t, json.Unmarshal(encoded, &back))
	assert.Equal(t, hostile.Type, back[0].Children[0].Type)
	assert.Equal(t, 3*time.Millisecond, back[0].Children[0].SinceRoot)
}
