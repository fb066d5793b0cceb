package stage

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/ledger"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0, "", "0"},
		{1234567, "", "1,234,567"},
		{2.5, "x", "2.5x"},
		{1200, "x", "1200.0x"},
		{0.25, "ms", "0.2 ms"},
		{99.94, "ms", "99.9 ms"},
		{100, "ms", "100 ms"},
		{4211.6, "ms", "4,212 ms"},
		{7, "%", "7 %"},
		{math.NaN(), "ms", "–"},
	} {
		require.Equal(t, c.want, format(&c.value, c.unit))
	}
	require.Equal(t, "–", format(nil, ""))
}

// example is a scenario about nothing.
func example() Scenario {
	return Scenario{
		Name: "example", Title: "What it is about", Lesson: "One. Two. Three.", Broken: "as it should not be.", Fixed: "as it should be.",
		Figures: []Figure{
			{Key: "lost", Label: "events lost"},
			{Key: "wait", Label: "a wait", Unit: "ms"},
			{Key: "held", Label: "events held back"},
		},
		Claims: []Claim{
			{
				Text: "Broken: events are lost.", By: []string{"lost"},
				Holds: func(was, _ Figures) bool { return was.Of("lost") > 0 },
			},
			{
				Text: "Fixed: nobody waits.", By: []string{"wait", "held"},
				Holds: func(_, now Figures) bool { return now.Of("wait") < 1 && now.Of("held") == 3 },
			},
		},
		Try: []string{"evdemo demo    # and so on"},
	}
}

func exampleReport(t *testing.T) Report {
	t.Helper()
	account := func(mode Mode, missing int) Account {
		return Account{mode, "jobs", ledger.Account{Attempted: 10, Outcomes: map[string]int{"confirmed": 9}, Unaccounted: 1, Consumers: []ledger.Consumer{
			{Name: "one", Effects: 10 - missing, Missing: missing}, {Name: "two", Effects: 11, Extra: 1},
		}}}
	}
	was := played{Figures{"lost": 1200, "wait": math.NaN()}, []Account{account(Broken, 2)}}
	now := played{Figures{"lost": 0, "wait": 12.34, "held": 3}, []Account{account(Fixed, 0), {Mode: Fixed, Name: "alone"}}}
	r, err := newReport(example(), was, now)
	require.NoError(t, err)
	r.Broker, r.Seed, r.Seconds = "RabbitMQ 4.0.5", 7, 1.25
	return r
}

func TestReportWithAClaimThatDoesNotHold(t *testing.T) {
	t.Parallel()
	r := exampleReport(t)
	require.False(t, r.Holds)
	require.Equal(t, []ledger.Claim{
		{Text: "Broken: events are lost.", Holds: true, Figures: "events lost: 1,200 when broken"},
		{Text: "Fixed: nobody waits.", Holds: false, Figures: "a wait: 12.3 ms when fixed; events held back: 3 when fixed"},
	}, r.Claims)
	require.Equal(t, "1 of 2 claims DO NOT HOLD. 1.2 s, seed 7.", r.Verdict())
}

func TestReportWithClaimsThatHold(t *testing.T) {
	t.Parallel()
	r, err := newReport(example(), played{figures: Figures{"lost": 1}}, played{figures: Figures{"wait": 0.5, "held": 3}})
	require.NoError(t, err)
	require.True(t, r.Holds)
	require.Equal(t, "all 2 claims hold. 0.0 s, seed 0.", r.Verdict())
}

func TestFigureThatWasNeverMeasured(t *testing.T) {
	t.Parallel()
	for _, not := range []Figures{{"lost": 1, "held": 0}, {"lost": 1, "held": 0, "wait": math.NaN()}} {
		_, err := newReport(example(), played{figures: not}, played{figures: not})
		require.EqualError(t, err, `scenario example has not measured "wait"`)
	}
}

// No comparison holds of what was not measured: a claim over it fails.
func TestFigureThatIsNotThere(t *testing.T) {
	t.Parallel()
	nothing := Figures{}.Of("lost")
	require.False(t, nothing < 1 || nothing > 0 || nothing == 0)
}

func TestReportInJSON(t *testing.T) {
	t.Parallel()
	content, err := json.Marshal(exampleReport(t).Figures)
	require.NoError(t, err)
	require.JSONEq(t, `[
		{"name":"lost","label":"events lost","was":1200,"now":0},
		{"name":"wait","label":"a wait","unit":"ms","was":null,"now":12.34},
		{"name":"held","label":"events held back","was":null,"now":3}]`, string(content))
}

func TestText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	exampleReport(t).Text(&b)
	require.Equal(t, golden(t, "report.txt"), b.String())
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	exampleReport(t).Markdown(&b)
	require.Equal(t, golden(t, "report.md"), b.String())
}

// golden is the content of a file in testdata.
func golden(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(content)
}

func TestWrap(t *testing.T) {
	t.Parallel()
	word := strings.Repeat("w", 60)
	require.Equal(t, "  "+word+"\n  "+word+" x", wrap(word+" "+word+" x", "  "))
	require.Equal(t, "short", wrap("short", ""))
	for line := range strings.SplitSeq(wrap(strings.Repeat("some words ", 100), claimIndent), "\n") {
		require.LessOrEqual(t, len(line), width)
		require.Equal(t, strings.TrimRight(line, " "), line)
		require.True(t, strings.HasPrefix(line, claimIndent))
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	r := exampleReport(t)
	var b strings.Builder
	Document(&b, []Report{r, r})
	section := golden(t, "report.md")
	require.Contains(t, b.String(), "| [example](#example) | What it is about | 1 of 2 claims DO NOT HOLD. 1.2 s, seed 7. |\n")
	require.True(t, strings.HasSuffix(b.String(), "\n\n"+section+"\n"+section))
}
