package stage

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/evdemo/evdemo/internal/ledger"
)

const (
	// nothing stands where a figure was not measured.
	nothing = "–"
	// width is that of the text on a screen.
	width = 110
	// ledgerIntro says what the table of the ledgers is.
	ledgerIntro = "The ledger: which events were made, what became of them for those who sent them, and how many of them each reader has handled. " +
		"The scenario itself counts them, by id: missing is how many a reader never handled, extra is how often one reader handled one again."
	// claimIndent is as long as the verdict before a claim.
	claimIndent = "       "
)

// wrap breaks a text into lines of at most width runes, each behind an indent.
func wrap(s, indent string) string {
	lines := strings.Split(text.WrapSoft(s, width-len(indent)), "\n")
	for i, line := range lines {
		lines[i] = indent + strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// Text writes the tables, the claims and the verdict for people at a screen.
func (r Report) Text(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", r.figures().Render())
	if t := r.accounts(); t != nil {
		fmt.Fprintf(w, "\n%s\n%s\n", wrap(ledgerIntro, ""), t.Render())
	}
	fmt.Fprintf(w, "\nWhat that proves, by these figures (broken → fixed):\n\n")
	for _, c := range r.Claims {
		fmt.Fprintf(w, "%s  %s\n%s\n", verdict(c.Holds), strings.TrimSpace(wrap(c.Text, claimIndent)), wrap("("+c.Figures+")", claimIndent))
	}
	fmt.Fprintf(w, "\n%s: %s\n\nGo on by hand:\n", r.Scenario, r.Verdict())
	for _, line := range r.scenario.Try {
		fmt.Fprintf(w, "  %s\n", line)
	}
}

// Verdict is what came of it, in a sentence.
func (r Report) Verdict() string {
	failed := 0
	for _, c := range r.Claims {
		if !c.Holds {
			failed++
		}
	}
	how := fmt.Sprintf("all %d claims hold", len(r.Claims))
	if failed > 0 {
		how = fmt.Sprintf("%d of %d claims DO NOT HOLD", failed, len(r.Claims))
	}
	return fmt.Sprintf("%s. %.1f s, seed %d.", how, r.Seconds, r.Seed)
}

// Document writes reports as a document.
func Document(w io.Writer, reports []Report) {
	fmt.Fprint(w, "# The scenarios\n\n"+
		"Each lesson is played twice, with real processes, on the broker that is named beneath it: broken on purpose, so that its fault\n"+
		"shows, and then as it should be. The claims are decided by the figures; one that does not hold makes `evdemo demo` exit with 5. `make scenarios` plays all\n"+
		"of them again and writes this page. Figures are of the machine that played them: the ratio of the two columns is the point.\n\n"+
		"| scenario | what it shows | verdict |\n|---|---|---|\n")
	for _, r := range reports {
		fmt.Fprintf(w, "| [%s](#%s) | %s | %s |\n", r.Scenario, r.Scenario, r.Title, r.Verdict())
	}
	fmt.Fprintln(w)
	for i, r := range reports {
		if i > 0 {
			fmt.Fprintln(w)
		}
		r.Markdown(w)
	}
}

// Markdown writes the report as a section of a document.
func (r Report) Markdown(w io.Writer) {
	s := r.scenario
	fmt.Fprintf(w, "## %s\n\n%s.\n\n%s\n\n", s.Name, s.Title, s.Lesson)
	fmt.Fprintf(w, "- **Broken:** %s\n- **Fixed:** %s\n\n", s.Broken, s.Fixed)
	fmt.Fprintf(w, "%s\n\n", r.figures().RenderMarkdown())
	if t := r.accounts(); t != nil {
		fmt.Fprintf(w, "%s\n\n%s\n\n", ledgerIntro, t.RenderMarkdown())
	}
	fmt.Fprint(w, "What that proves, by these figures (broken → fixed):\n\n")
	for _, c := range r.Claims {
		fmt.Fprintf(w, "- **%s** %s (%s)\n", verdict(c.Holds), c.Text, c.Figures)
	}
	fmt.Fprintf(w, "\n`evdemo demo %s`, %s: %s\n", s.Name, r.Broker, r.Verdict())
}

func verdict(holds bool) string {
	if holds {
		return "holds"
	}
	return "FAILS"
}

// figures is the table of was and now.
func (r Report) figures() table.Writer {
	t := newTable(table.Row{"", string(Broken), string(Fixed)})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, Align: text.AlignRight}, {Number: 3, Align: text.AlignRight}})
	for _, f := range r.Figures {
		t.AppendRow(table.Row{f.Label, format(f.Was, f.Unit), format(f.Now, f.Unit)})
	}
	return t
}

// accounts is the table of all ledgers, or nil.
func (r Report) accounts() table.Writer {
	if len(r.Ledger) == 0 {
		return nil
	}
	t := newTable(table.Row{"", "events", "made", "outcome", "reader", "handled", "missing", "extra"})
	var numbers []table.ColumnConfig // also where a cell of the column is empty
	for _, column := range []string{"made", "handled", "missing", "extra"} {
		numbers = append(numbers, table.ColumnConfig{Name: column, Align: text.AlignRight})
	}
	t.SetColumnConfigs(numbers)
	for _, a := range r.Ledger {
		row := table.Row{string(a.Mode), a.Name, thousands(float64(a.Attempted)), outcomes(a.Account)}
		for _, c := range a.Consumers {
			t.AppendRow(append(row, c.Name, thousands(float64(c.Effects)), thousands(float64(c.Missing)), thousands(float64(c.Extra))))
			row = table.Row{"", "", "", ""}
		}
		if len(a.Consumers) == 0 {
			t.AppendRow(row)
		}
	}
	return t
}

// outcomes says how many events had which outcome.
func outcomes(a ledger.Account) string {
	var all []string
	for _, outcome := range slices.Sorted(maps.Keys(a.Outcomes)) {
		all = append(all, thousands(float64(a.Outcomes[outcome]))+" "+outcome)
	}
	if a.Unaccounted > 0 {
		all = append(all, thousands(float64(a.Unaccounted))+" none")
	}
	return strings.Join(all, ", ")
}

func newTable(header table.Row) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(header)
	return t
}

// format writes a figure with its unit.
func format(v *float64, unit string) string {
	switch {
	case v == nil || math.IsNaN(*v):
		return nothing
	case unit == "":
		return thousands(*v)
	case unit == "x":
		return fmt.Sprintf("%.1fx", *v)
	case *v >= 100 || unit == "%":
		return thousands(*v) + " " + unit
	default:
		return fmt.Sprintf("%.1f %s", *v, unit)
	}
}

// thousands writes a number without decimals, in groups of three.
func thousands(v float64) string { return message.NewPrinter(language.English).Sprintf("%.0f", v) }
