"""Messages of the live protocols, generated from the .proto files by `make protocols`."""
