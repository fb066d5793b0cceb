package cmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/evdemo/evdemo/internal/scenario"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/stage"
)

// What "demo" takes besides the names of scenarios.
const (
	demoList = "list"
	demoAll  = "all"
)

// check says what is wrong with how "demo" was called.
func (o *demoOptions) check() error {
	memory := o.broker == brokerMemory
	if _, one := scenario.Find(o.name); o.part != "" && !one {
		return usageErrorf("--part is for a scenario, which starts such processes itself")
	}
	if !memory && o.broker != brokerRabbitMQ {
		return usageErrorf("--broker %q: want %s or %s", o.broker, brokerRabbitMQ, brokerMemory)
	}
	switch o.name {
	case "":
		if o.output.value == "markdown" {
			return usageErrorf("-o markdown is for scenarios: evdemo demo all -o markdown")
		}
		if o.broken && memory {
			return usageErrorf("--broken takes events off a queue of RabbitMQ: without --broker memory")
		}
		return nil
	case demoList, demoAll:
	default:
		s, ok := scenario.Find(o.name)
		if !ok {
			return usageErrorf("no scenario %q: want %s, or one of %s", o.name, demoList+" or "+demoAll, strings.Join(scenario.Names(), ", "))
		}
		if _, ok := s.Parts[o.part]; o.part != "" && !ok {
			return usageErrorf("scenario %s has no part %q", o.name, o.part)
		}
		if memory && !s.InMemory() {
			return usageErrorf("scenario %s needs a RabbitMQ: leave --broker memory out; those that need none are %s", o.name, strings.Join(inMemory(), ", "))
		}
	}
	if o.broken {
		return usageErrorf("--broken is for evdemo demo without a scenario: each scenario shows both, broken and fixed")
	}
	return nil
}

// inMemory are the names of the scenarios that need no broker.
func inMemory() (names []string) {
	for _, s := range scenario.All() {
		if s.InMemory() {
			names = append(names, s.Name)
		}
	}
	return names
}

// runScenarios lists scenarios, or plays one of them or all.
func runScenarios(ctx context.Context, app *App, opts *demoOptions) error {
	chosen := scenario.All()
	if s, ok := scenario.Find(opts.name); ok {
		if opts.part != "" {
			return playPart(ctx, app, s, opts)
		}
		chosen = []stage.Scenario{s}
	}
	if opts.broker == brokerMemory {
		chosen = slices.DeleteFunc(chosen, func(s stage.Scenario) bool { return !s.InMemory() })
	}
	if opts.name == demoList {
		return listScenarios(app, opts, chosen)
	}
	config, err := stageConfig(app, opts, slices.ContainsFunc(chosen, stage.Scenario.Dials))
	if err != nil {
		return err
	}
	reports, unplayed := playScenarios(ctx, app, opts, chosen, config)
	if err := ctx.Err(); err != nil || len(reports) == 0 {
		return cmp.Or(unplayed, err)
	}
	if err := errors.Join(printReports(app, opts, reports), unplayed); err != nil {
		return err
	}
	var failed []string
	for _, r := range reports {
		if !r.Holds {
			failed = append(failed, r.Scenario)
		}
	}
	if failed != nil {
		return &exitError{exitClaim, fmt.Errorf("not all claims hold: %s", strings.Join(failed, ", "))}
	}
	return nil
}

// playScenarios plays one after the other. The error is of those that came to no verdict, which does not keep the others from theirs.
func playScenarios(ctx context.Context, app *App, opts *demoOptions, chosen []stage.Scenario, config stage.Config) (reports []stage.Report, unplayed error) {
	for i, s := range chosen {
		if i > 0 {
			fmt.Fprintf(config.Screen, "\n%s\n\n", strings.Repeat("─", 100))
		}
		report, err := stage.Run(ctx, s, config)
		switch {
		case err == nil:
			reports = append(reports, report)
			if opts.output.value == "table" {
				report.Text(app.Out)
			}
		case ctx.Err() != nil && !errors.Is(err, stage.ErrLeftBehind):
			return nil, errors.New("interrupted; everything the demo made was removed")
		case ctx.Err() != nil:
			return nil, err
		default:
			fmt.Fprintf(config.Screen, "\n%s has come to no verdict.\n", s.Name)
			unplayed = errors.Join(unplayed, err)
		}
	}
	return reports, unplayed
}

// printReports prints what is printed at the end.
func printReports(app *App, opts *demoOptions, reports []stage.Report) error {
	switch all := opts.name == demoAll; {
	case opts.output.value == "markdown" && all:
		stage.Document(app.Out, reports)
	case opts.output.value == "markdown":
		reports[0].Markdown(app.Out)
	case opts.output.json() && all:
		return writeJSON(app.Out, reports)
	case opts.output.json():
		return writeJSON(app.Out, reports[0])
	case all:
		printVerdicts(app, reports)
	}
	return nil
}

// stageConfig says where and how to play, and finds the broker where one is needed.
func stageConfig(app *App, opts *demoOptions, needed bool) (config stage.Config, err error) {
	config = stage.Config{Memory: opts.broker == brokerMemory, ConnectTimeout: app.global.connectTimeout, Seed: opts.seed, Screen: app.Out}
	if app.global.verbose { // what befalls the processes is meant to; the screen tells of it
		config.Logger = app.Logger()
	}
	if config.Seed == 0 {
		config.Seed = 1 + rand.Uint64N(999_999)
	}
	switch {
	case app.global.quiet:
		config.Screen = io.Discard
	case opts.output.value != "table":
		config.Screen = app.Err
	}
	if config.Executable, err = os.Executable(); err != nil {
		return config, fmt.Errorf("find evdemo itself: %w", err)
	}
	var broker brokerSettings
	if needed && !config.Memory {
		if broker, err = app.broker(); err != nil {
			return config, err
		}
	}
	config.URLs, config.TLS = broker.URLs, broker.TLS
	config.Environment = func(url string) []string {
		settings := broker
		settings.URLs = session.SplitURLs(url)
		return app.childEnvironment(settings)
	}
	return config, nil
}

// playPart is the whole life of a child process of a scenario.
func playPart(ctx context.Context, app *App, s stage.Scenario, opts *demoOptions) error {
	var broker brokerSettings
	if s.Needs != stage.Nothing {
		var err error
		if broker, err = app.broker(); err != nil {
			return err
		}
	}
	player := &stage.Player{URLs: broker.URLs, URL: append(broker.URLs, "")[0], TLS: broker.TLS, Ready: func() { app.Logger().Info("ready") }}
	if err := json.Unmarshal([]byte(opts.partArgs), &player.Args); err != nil {
		return usageErrorf("--part-args: %v", err)
	}
	player.Print = func(v any) error { return writeJSON(app.Out, v) }
	return s.Parts[opts.part](ctx, player)
}

func listScenarios(app *App, opts *demoOptions, scenarios []stage.Scenario) error {
	type entry struct {
		Name   string `json:"name"`
		Title  string `json:"title"`
		Lesson string `json:"lesson"`
		Memory bool   `json:"memory"`
	}
	list := make([]entry, 0, len(scenarios))
	for _, s := range scenarios {
		list = append(list, entry{s.Name, s.Title, s.Lesson, s.InMemory()})
	}
	switch opts.output.value {
	case "json":
		return writeJSON(app.Out, list)
	case "markdown":
		fmt.Fprint(app.Out, "| scenario | what it shows |\n|---|---|\n")
		for _, e := range list {
			fmt.Fprintf(app.Out, "| [%s](#%s) | %s |\n", e.Name, e.Name, e.Title)
		}
		return nil
	}
	t := table.NewWriter()
	t.SetOutputMirror(app.Out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"scenario", "what it shows"})
	for _, e := range list {
		t.AppendRow(table.Row{e.Name, e.Title})
	}
	t.Render()
	fmt.Fprintf(app.Out, "\nevdemo demo NAME plays one of them (begin with sync-vs-async), evdemo demo all plays all, and evdemo demo alone plays a\nwhole shop. These need no RabbitMQ (--broker memory): %s.\n", strings.Join(inMemory(), ", "))
	return nil
}

// printVerdicts is the end of "demo all".
func printVerdicts(app *App, reports []stage.Report) {
	t := table.NewWriter()
	t.SetOutputMirror(app.Out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"scenario", "what it shows", "verdict"})
	seconds := 0.0
	for _, r := range reports {
		t.AppendRow(table.Row{r.Scenario, r.Title, r.Verdict()})
		seconds += r.Seconds
	}
	fmt.Fprintln(app.Out)
	t.Render()
	fmt.Fprintf(app.Out, "\n%d scenarios in %.0f s.\n", len(reports), seconds)
}
