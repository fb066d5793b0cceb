package stage

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/evdemo/evdemo/internal/ledger"
)

// Report is what came of a scenario.
type Report struct {
	Scenario string         `json:"scenario"`
	Title    string         `json:"title"`
	Broker   string         `json:"broker"`
	Seed     uint64         `json:"seed"`
	Figures  []Measured     `json:"figures"`
	Ledger   []Account      `json:"ledger"`
	Claims   []ledger.Claim `json:"claims"`
	Holds    bool           `json:"holds"`
	Seconds  float64        `json:"seconds"`

	scenario Scenario
}

// Measured is a figure in both modes; null where it was not measured in one.
type Measured struct {
	Name  string   `json:"name"`
	Label string   `json:"label"`
	Unit  string   `json:"unit,omitempty"`
	Was   *float64 `json:"was"`
	Now   *float64 `json:"now"`
}

// Account is a ledger of a mode.
type Account struct {
	Mode Mode   `json:"mode"`
	Name string `json:"name"`
	ledger.Account
}

// newReport makes the claims over the figures of both modes.
func newReport(scenario Scenario, was, now played) (Report, error) {
	r := Report{Scenario: scenario.Name, Title: scenario.Title, Holds: true, scenario: scenario, Ledger: slices.Concat(was.accounts, now.accounts)}
	for _, f := range scenario.Figures {
		m := Measured{Name: f.Key, Label: f.Label, Unit: f.Unit, Was: was.figures.pointer(f.Key), Now: now.figures.pointer(f.Key)}
		if m.Was == nil && m.Now == nil {
			return r, fmt.Errorf("scenario %s has not measured %q", scenario.Name, f.Key)
		}
		r.Figures = append(r.Figures, m)
	}
	for _, c := range scenario.Claims {
		claim := scenario.check(c, was.figures, now.figures)
		r.Holds = r.Holds && claim.Holds
		r.Claims = append(r.Claims, claim)
	}
	return r, nil
}

func (f Figures) pointer(key string) *float64 {
	if v, ok := f[key]; ok && !math.IsNaN(v) {
		return &v
	}
	return nil
}

// check makes one claim.
func (s Scenario) check(c Claim, was, now Figures) ledger.Claim {
	var by []string
	for _, key := range c.By {
		f := s.Figures[slices.IndexFunc(s.Figures, func(f Figure) bool { return f.Key == key })]
		before, after := format(was.pointer(key), f.Unit), format(now.pointer(key), f.Unit)
		value := before + " → " + after
		switch {
		case after == nothing, before != nothing && strings.HasPrefix(c.Text, "Broken: "):
			value = before + " when broken"
		case before == nothing:
			value = after + " when fixed"
		}
		by = append(by, f.Label+": "+value)
	}
	return ledger.Claim{Text: c.Text, Holds: c.Holds(was, now), Figures: strings.Join(by, "; ")}
}
