"""WHAT IS ALLOWED AND HOW TRAFFIC FLOWS: pure functions from documents and endpoints to the proxy's resources.

schema/    the kinds and their fields (Consul's config entries, and ours marked as such), and the readers of text
parse      text to documents, or problems with place, reason and nearest name
validate   what one document must satisfy beyond its fields' types
problem    what is wrong with a document, for people
select     which documents apply to a service; closure of the services a host needs
filter     subset expressions (`Service.Meta.version == "2"`)
view       what a compilation is given and returns
compile    documents and endpoints to resources, each rule with its origin; made of
           upstreams, endpoints, routes (chain, matches), inbound; context is what they share
compiled   the resources: the contract with the proxy (`meshd/proxy/src/config.rs` is its other side)
defaults   what holds where no document says otherwise
"""
