// Package saga runs a business process over several services as events and durable decisions, on an event store and a bus:
// as choreography or as orchestration.
//
// A [Service] is choreography: it reacts to events of others with events of its own. A [Coordinator] is orchestration: it
// knows the [Step]s of a process, sends each as a command, waits for the answer, and where one fails or does not come in
// time takes back what was done, last first. Both faces have one kernel, and what it promises is:
//
//   - What is decided about an event is appended to the store all or nothing, under the versions of the streams that it was
//     decided from. A decision that was overtaken is made again.
//   - Each event is decided on once. The ids of what is decided are made from the ids of what it was decided about, so that a
//     second delivery, at any later time and in any process, appends nothing.
//   - A process that dies, at whatever moment, leaves a decision whole or not made; then the bus delivers the event again.
//
// So handlers are methods of the bus's contract, [worker.Handler], at least once in and exactly once out; the store's relay
// (package eventstore/relay) publishes what was decided. What a decision does elsewhere, at a bank, is what only the other
// side can do once: it is made with [Turn.Key], which is the same each time.
package saga
