"""The files of a scene bank: index, scene table, blocks of records, shared parts; see docs/bank.md."""
