package localbroker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// StateDir is the directory of the node of "evdemo broker start": $EVDEMO_STATE_DIR/broker, or
// $XDG_STATE_HOME/evdemo/broker, or ~/.local/state/evdemo/broker. Without a lookup function the
// environment is that of the process.
func StateDir(lookup func(name string) (string, bool)) (string, error) {
	if lookup == nil {
		lookup = os.LookupEnv
	}
	if dir, _ := lookup("EVDEMO_STATE_DIR"); dir != "" {
		return filepath.Abs(filepath.Join(dir, "broker"))
	}
	if dir, _ := lookup("XDG_STATE_HOME"); filepath.IsAbs(dir) { // others are to be ignored, says the XDG specification
		return filepath.Join(dir, "evdemo", "broker"), nil
	}
	home, _ := lookup("HOME")
	if home == "" {
		return "", errors.New("no state directory: neither EVDEMO_STATE_DIR, XDG_STATE_HOME nor HOME is set")
	}
	return filepath.Join(home, ".local", "state", "evdemo", "broker"), nil
}

// record is what a node's broker.json holds: how it was last started.
type record struct {
	PID           int       `json:"pid"` // 0 while it is being started
	URL           string    `json:"url"`
	ManagementURL string    `json:"management_url"`
	Dir           string    `json:"dir"`
	Started       time.Time `json:"started"`
	NodeName      string    `json:"node_name"`
	Version       string    `json:"version"`
	Server        string    `json:"server"`
	Ports         ports     `json:"ports"`
	ConfigExtra   []string  `json:"config_extra,omitempty"`
	Detached      bool      `json:"detached"`
}

// read returns the record of a directory, and false where there is none.
func (l layout) read() (record, bool, error) {
	var r record
	content, err := os.ReadFile(l.record())
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err != nil {
		return r, false, fmt.Errorf("read %s: %w", l.record(), err)
	}
	return r, true, nil
}

// save replaces the record as a whole, so that no reader sees half of it.
func (l layout) save(r record) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	next := l.record() + ".new"
	if err := os.WriteFile(next, append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, l.record())
}

// Running returns the node that lives in dir. It reads two files there and asks nothing of the
// network. The error is [ErrNotRunning] where no node is running or one is still starting.
func Running(dir string) (*Node, error) {
	l := layout{dir: dir}
	if !locked(l.lock()) {
		return nil, ErrNotRunning
	}
	r, ok, err := l.read()
	if err != nil {
		return nil, err
	}
	if !ok || r.PID <= 0 {
		return nil, ErrNotRunning
	}
	return r.node(), nil
}

// Load returns the node in dir as it was last started, which need not be running any more, and need not
// have come up. The error is [ErrNotRunning] where none was started.
func Load(dir string) (*Node, error) {
	r, ok, err := layout{dir: dir}.read()
	if err == nil && !ok {
		err = ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	return r.node(), nil
}

// node makes a Node of what was recorded.
func (r record) node() *Node {
	n := &Node{
		layout: layout{dir: r.Dir, node: r.NodeName},
		config: Config{
			Dir: r.Dir, Port: r.Ports.AMQP, ManagementPort: r.Ports.Management, NodeName: r.NodeName,
			ConfigExtra: r.ConfigExtra, Server: r.Server, Detached: r.Detached,
			Logger: slog.New(slog.DiscardHandler),
		},
		ports: r.Ports,
	}
	n.last.Store(&r)
	return n
}
