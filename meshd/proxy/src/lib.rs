//! meshd-proxy: carries every request byte. Modules in request order; `stack` composes them.
