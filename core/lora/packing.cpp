#include "core/lora/packing.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "core/base/text.hpp"

namespace bv::lora {
namespace {

constexpr PeftVersion kMarkRead{0, 19, 0};    // released the wrong way round
constexpr PeftVersion kRolesFixed{0, 19, 1};  // every stack without the mark is [E, out, in]

/// Does a version take such a stack for [E, out, in]?
bool taken_as_out_in(const PeftVersion& version, bool marked) {
  return version >= kRolesFixed ? !marked : version >= kMarkRead && marked;
}

/// `columns_first` must be known.
bool exchanges(const PeftVersion& version, const PackedStack& stack) {
  return taken_as_out_in(version, stack.marked) == *stack.columns_first;
}

Error misfit(const PackedShapes& shapes, const PackedStack& stack) {
  const bool exchanged = stack.columns_first && exchanges(kRolesFixed, stack);
  return fail(Code::AdapterShape, "and its lora_A do not fit the packed experts")
      .pair(fmt::format("lora_A {}, lora_B {}", shape_text(shapes.a), shape_text(shapes.b)),
            fmt::format("lora_A [{}*r, {}], lora_B [{}, r*{}]", stack.experts,
                        exchanged ? stack.rows : stack.columns,
                        exchanged ? stack.columns : stack.rows, stack.experts))
      .advise(kOtherBase);
}

/// Square experts: the version that wrote the factors decides.
Result<bool> exchanged_by_version(const PackedStack& stack,
                                  const std::optional<std::string>& text) {
  const auto version = text ? peft_version_of(*text) : std::nullopt;
  if (!version) {
    return fail(Code::PackingUnknown,
                "belongs to square experts, and their packing cannot be determined")
        .pair(text ? fmt::format("peft_version \"{}\"", escaped(bounded(*text, 40)))
                   : "no peft_version in the config",
              "the version of PEFT that wrote it")
        .advise("add peft_version to adapter_config.json");
  }
  return exchanges(*version, stack);
}

/// Can the version have written these roles? Of an unknown one: could any, but for 0.19.0?
bool is_possible(bool exchanged, const PackedStack& stack, const std::optional<std::string>& text) {
  const auto version = text ? peft_version_of(*text) : std::nullopt;
  return version ? exchanges(*version, stack) == exchanged
                 : exchanges(kRolesFixed, stack) == exchanged ||
                       exchanges(PeftVersion{}, stack) == exchanged;
}

}  // namespace

bool exchanges_roles(const std::string& peft_version, const PackedStack& stack) {
  return stack.columns_first &&
         exchanges(peft_version_of(peft_version).value_or(kRolesFixed), stack);
}

Result<PackedRoles> packed_roles(const PackedShapes& shapes, const PackedStack& stack,
                                 const std::optional<std::string>& peft_version) {
  const auto& [experts, rows, columns, columns_first, marked] = stack;
  const std::int64_t rank_a = experts == 0 ? 0 : shapes.a[0] / experts;
  const std::int64_t rank_b = experts == 0 ? 0 : shapes.b[1] / experts;
  if (rank_a == 0 || rank_b == 0 || shapes.a[0] % experts != 0 || shapes.b[1] % experts != 0) {
    return misfit(shapes, stack);
  }
  if (rank_a != rank_b) {
    return fail(Code::AdapterPairBroken, "has another rank than its lora_A")
        .pair(fmt::format("lora_A rank {}, lora_B rank {}", rank_a, rank_b), "one rank")
        .advise("save the adapter again");
  }
  PackedRoles out{rank_a, false, columns_first.value_or(false)};
  const bool direct = shapes.b[0] == rows && shapes.a[1] == columns;
  const bool exchanged = shapes.b[0] == columns && shapes.a[1] == rows;
  if (!direct && !exchanged) {
    return misfit(shapes, stack);
  }
  if (!columns_first) {  // rows and columns are the two dimensions as stored
    if (direct && exchanged) {
      return fail(Code::PackingUnknown,
                  "belongs to square experts of a class that no family describes")
          .pair("a square stack", "a class that is known")
          .advise("name a family of the same structure with --family");
    }
    out.columns_first = exchanged;
    return out;
  }
  if (direct && exchanged) {
    BV_TRY(by_version, exchanged_by_version(stack, peft_version));
    out.exchanged = by_version;
    return out;
  }
  if (!is_possible(exchanged, stack, peft_version)) {
    return misfit(shapes, stack);
  }
  out.exchanged = exchanged;
  return out;
}

Factor expert_rows(Factor a, std::int64_t expert, std::int64_t rank) {
  const std::int64_t place = expert * rank * a.row_stride;
  a.offset += place;
  a.first += place * static_cast<std::int64_t>(bytes(a.dtype));
  a.rows = rank;
  return a;
}

Factor expert_columns(Factor b, std::int64_t expert, std::int64_t experts) {
  b.offset += expert * b.column_stride;
  b.first += expert * b.column_stride * static_cast<std::int64_t>(bytes(b.dtype));
  b.columns /= experts;
  b.column_stride *= experts;
  return b;
}

std::optional<PeftVersion> peft_version_of(const std::string& text) {
  std::array<int, 3> numbers{};
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  std::size_t count = 0;
  for (; count < numbers.size() && at < end; ++count) {
    const auto [after, error] = std::from_chars(at, end, numbers[count]);
    if (error != std::errc() || numbers[count] < 0) {
      break;
    }
    at = after;
    if (at == end || *at != '.') {
      ++count;
      break;
    }
    ++at;
  }
  return count < 2 ? std::nullopt : std::optional(PeftVersion{numbers[0], numbers[1], numbers[2]});
}

}  // namespace bv::lora
