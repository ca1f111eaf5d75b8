SELECT entity, kind, name FROM btc.current_entities
