#pragma once
#include <nlohmann/json.hpp>

/// The JSON library, whose templates models/json.cpp instantiates once for all: each of the hundred sources
/// that use it would compile them again, which is a third of a build's time.
extern template class nlohmann::basic_json<>;
extern template class nlohmann::basic_json<nlohmann::ordered_map>;
extern template class nlohmann::detail::serializer<nlohmann::json>;
extern template class nlohmann::detail::serializer<nlohmann::ordered_json>;
