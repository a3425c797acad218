"""Recurrent networks, one step and whole sequences: rnn, lstm and gru say what a step is, recurrence runs them."""
