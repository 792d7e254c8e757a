//! The Container Runtime Interface over a socket, as containerd serves it.
