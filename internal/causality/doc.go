// Package causality finds the events of one flow in the logs of topics and puts them into the tree of
// what brought about what.
package causality
