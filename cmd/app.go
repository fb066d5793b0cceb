// Package cmd is the command line: flags, help, output and exit codes. What the commands do
// lives in the packages that they call.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// App is what every command gets: its streams, its environment and the flags that all commands
// share. Tests make one of their own.
type App struct {
	// In, Out and Err are the standard streams. Data goes to Out, everything else to Err.
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// InTerminal, OutTerminal and ErrTerminal tell whether a person is at the other end.
	InTerminal, OutTerminal, ErrTerminal bool
	// LookupEnv reads the environment.
	LookupEnv func(name string) (string, bool)

	global globalOptions
	// started is set once flags and arguments have been understood: errors before that are
	// mistakes in usage.
	started bool
}

// globalOptions are the flags of every command.
type globalOptions struct {
	url            string
	profile        string
	tlsCA          string
	tlsCert        string
	tlsKey         string
	tlsInsecure    bool
	quiet          bool
	verbose        bool
	logFormat      string
	connectTimeout time.Duration
	profileURL     string // from the selected profile; set while flags are settled
}

// NewApp makes the App of a process.
func NewApp() *App {
	return &App{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		OutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		LookupEnv:   os.LookupEnv,
	}
}

// Main runs evdemo with the given arguments and returns its exit code. The first SIGINT or
// SIGTERM ends the command's context, so that it drains; a second one ends the process at once.
func Main(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // as long as the process
		<-signals
		cancel()
		quit(<-signals)
	}()
	return Run(ctx, NewApp(), args)
}

// quit ends the process as the signal would have done by itself.
func quit(s os.Signal) {
	signal.Reset(s)
	if self, err := os.FindProcess(os.Getpid()); err != nil || self.Signal(s) != nil {
		os.Exit(exitFailed)
	}
	<-time.After(time.Second) // it does nothing where it was ignored from the start, as SIGINT is behind an &
	os.Exit(exitFailed)
}

// Run runs one command line on an App and returns the exit code.
func Run(ctx context.Context, app *App, args []string) int {
	return app.run(ctx, newRootCommand(app), args) //nolint:contextcheck // commands get theirs when they run
}

func (a *App) run(ctx context.Context, root *cobra.Command, args []string) int {
	out := &checkedWriter{w: a.Out}
	a.Out = out
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	refuseUnknown(root)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usageError(err)
	}
	if err == nil {
		err = out.failure()
	}
	if err == nil {
		return exitOK
	}
	if _, silent := errors.AsType[*reportedError](err); !silent {
		fmt.Fprintf(a.Err, "%s: %v\n", command.CommandPath(), err)
	}
	code := exitCode(err)
	if code == exitUsage {
		fmt.Fprintf(a.Err, "Run '%s --help' for usage.\n", command.CommandPath())
	}
	return code
}

// Logger gives the log of this run: on Err, from level info, or debug with --verbose, or
// warnings only with --quiet.
func (a *App) Logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	switch {
	case a.global.verbose:
		options.Level = slog.LevelDebug
	case a.global.quiet:
		options.Level = slog.LevelWarn
	}
	if a.global.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.Err, options))
	}
	return slog.New(slog.NewTextHandler(a.Err, options))
}
