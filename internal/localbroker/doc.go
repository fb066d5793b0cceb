// Package localbroker runs private RabbitMQ nodes: child processes of ours, from an installed
// rabbitmq-server, each with a directory, ports and an Erlang cookie of its own. It never
// touches the system's RabbitMQ service.
//
// [Start] returns when a client can log in as guest, which takes 5 to 15 s on two cores. Every
// listener of a node is bound to the loopback interface: AMQP, management API, Erlang
// distribution and the Erlang port mapper. The port mapper (epmd) has a port of its own per node
// too, because a machine's usual one serves every Erlang program of every user there: started by
// us it would be bound to loopback for all of them, and stopped by us it would be gone for all
// of them.
//
// A node dies with the process that started it, however that ends. A node started with
// [Config].Detached stays, and [Running] finds it again from another process. Whether a node
// lives is told by a lock on a file in its directory, which the kernel keeps for as long as the
// Erlang VM runs: neither a reboot nor a process id used again can make a dead node look alive.
//
// The package works on Linux, macOS and the BSDs. Elsewhere [Find] returns [ErrNotInstalled].
package localbroker
