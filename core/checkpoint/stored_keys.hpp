#pragma once
// What Megatron-Core calls in a checkpoint otherwise than in memory, and what it cuts apart there:
// one table, from which checkpoints are written and read.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/tensor_spec.hpp"

namespace bv::checkpoint {

/// A key, and the leading indices that a parameter has in it.
struct GlobalPlace {
  std::string key;
  Shape index;
};

/// The name of a parameter as a checkpoint has it.
struct StoredName {
  std::string name;
  std::string kind = "";      // of the layers that it is stacked with, when not all: "_sliding"
  std::int64_t number = -1;   // of its layer among those; -1: the number in the name
  bool single = false;        // never stacked
  bool as_in_memory = false;  // of a module of transformers: the key is the name

  StoredName(std::string of)
      : name(std::move(of)) {}  // NOLINT(google-explicit-constructor): most are stored as they are
};

/// The number of a layer or an expert; nullopt for any other text.
[[nodiscard]] std::optional<std::int64_t> number_in(std::string_view text);

/// Where Megatron-Core puts the parameter `name` (global numbers) when each layer has keys of its
/// own: experts are slices of one tensor, and some modules keep the names of older checkpoints.
[[nodiscard]] GlobalPlace global_place(const StoredName& name);

/// Rows of a parameter by their name in a rule, and what follows the parameter's key where they
/// are stored under a key of their own.
struct StoredPart {
  std::string_view rows;
  std::string_view suffix;
};

/// A parameter whose rows are stored apart, in the order in which they are fused.
struct StoredApart {
  std::string_view module;
  std::vector<StoredPart> parts;
  bool always;  // not only on request (singleton_local_shards)
};

/// Every way in which the rows of the parameter with this key may be stored apart; none for most.
[[nodiscard]] std::vector<const StoredApart*> ways_apart(std::string_view key);

/// Numbered modules that share keys with a leading axis where all of them are alike.
[[nodiscard]] std::span<const std::string_view> stacked_modules();

}  // namespace bv::checkpoint
