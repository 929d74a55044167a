#include "properties/attacks/mutants/program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::mutants {
namespace {

Move make_move(const plan::Plan& plan, std::size_t file, const plan::Target& target) {
  const model::Model& model = plan.model();
  const model::Mapping& mapping = model.mappings[target.mapping];
  const plan::ShardFile& shard_file = plan.files()[file];
  layout::Shard shard = plan.shard(target);
  Move move;
  move.file = file;
  move.name = target.name;
  move.global_name = target.global_name;
  move.mapping = target.mapping;
  move.rule = mapping.rule->id;
  move.index = move.local_index = mapping.index;
  move.expert = target.expert;
  move.t = target.t;
  move.copy = target.copy;
  move.is_expert = mapping.rule->expert;
  move.vocabulary = mapping.rule->vocabulary;
  move.hf = mapping.hf;
  move.hf_shapes = plan.hf_shapes(mapping);
  move.shape = std::move(shard.shape);
  move.boxes = std::move(shard.boxes);
  move.parts = plan.bound(mapping).part_names();
  move.arithmetic.add = mapping.rule->value.added_on_import();
  for (const parallel::StageContents& stage : plan.stages()) {
    if (stage.pp == shard_file.key.pp && stage.vp == shard_file.key.vp &&
        mapping.stage == family::Stage::Decoder) {
      move.local_index = mapping.index - stage.first_layer;
    }
  }
  if (target.expert >= 0) {  // all parts of a stack without placement are local
    const std::int64_t experts = model.geometry.experts();
    const std::int64_t local = std::max<std::int64_t>(1, experts / plan.layout().ep);
    move.local_expert = mapping.rule->expert ? target.expert % local : target.expert;
  }
  return move;
}

std::size_t bytes_of(const Shape& shape, DType dtype) {
  return static_cast<std::size_t>(element_count(shape).value() * bytes(dtype));
}

/// Applies the move's arithmetic to one element: HF type in, Megatron type out.
void compute(const std::byte* source, DType source_dtype, std::byte* target, DType target_dtype,
             const Arithmetic& arithmetic) {
  const double in = kinds::load(source, source_dtype) * arithmetic.scale;
  std::byte rounded[8];
  const DType sum_dtype =
      arithmetic.through.value_or(arithmetic.cast_first ? target_dtype : source_dtype);
  kinds::store(in, rounded, sum_dtype);
  kinds::store(kinds::load(rounded, sum_dtype) + arithmetic.add, rounded, sum_dtype);
  kinds::store(kinds::load(rounded, sum_dtype), target, target_dtype);
}

bool computes(const Move& move, DType dtype) {
  const Arithmetic& a = move.arithmetic;
  return kinds::is_computable(dtype) &&
         (a.add != 0 || a.scale != 1 || a.cast.has_value() || a.through.has_value());
}

/// The HF tensors of a move in the type of the Megatron tensor: as they are, or computed into
/// `made`.
std::vector<const std::byte*> prepared(const Move& move, Tensors& hf, DType target_dtype,
                                       std::deque<std::vector<std::byte>>& made) {
  std::vector<const std::byte*> out;
  for (const std::string& name : move.hf) {
    Tensor& tensor = hf.find(name)->second;
    if (!computes(move, tensor.dtype)) {
      out.push_back(tensor.bytes.data());
      continue;
    }
    const auto wide = static_cast<std::size_t>(bytes(tensor.dtype));
    const auto narrow = static_cast<std::size_t>(bytes(target_dtype));
    const std::size_t count = tensor.bytes.size() / wide;
    std::vector<std::byte>& values = made.emplace_back(count * narrow);
    for (std::size_t i = 0; i < count; ++i) {
      compute(tensor.bytes.data() + i * wide, tensor.dtype, values.data() + i * narrow,
              target_dtype, move.arithmetic);
    }
    if (move.arithmetic.in_place && wide == narrow) {
      tensor.bytes = values;
    }
    out.push_back(values.data());
  }
  return out;
}

DType target_dtype(const Move& move, const Tensors& hf) {
  const auto first = hf.find(move.hf.front());
  const DType own = first->second.dtype;
  return move.arithmetic.cast && kinds::is_computable(own) ? *move.arithmetic.cast : own;
}

/// Why the move cannot run at all; nullopt when it can.
std::optional<Refusal> refusal(const Move& move, const Tensors& hf) {
  for (std::size_t i = 0; i < move.hf.size(); ++i) {
    const auto found = hf.find(move.hf[i]);
    if (found == hf.end()) {
      return Refusal{move.global_name, move.hf[i], true, {}, move.hf_shapes[i]};
    }
    if (found->second.shape != move.hf_shapes[i]) {
      return Refusal{move.global_name, move.hf[i], false, found->second.shape, move.hf_shapes[i]};
    }
  }
  return std::nullopt;
}

void change_element(Tensor& tensor, std::int64_t element) {
  const auto size = static_cast<std::size_t>(bytes(tensor.dtype));
  const std::size_t at = static_cast<std::size_t>(element) * size;
  if (at + size > tensor.bytes.size()) {
    return;
  }
  tensor.bytes[at] ^= std::byte{0x01};
}

void write(const Move& move, Tensors& hf, Tensor& target) {
  std::deque<std::vector<std::byte>> made;
  const auto sources = prepared(move, hf, target.dtype, made);
  move::make_whole(move.boxes, sources, static_cast<std::size_t>(bytes(target.dtype)),
                   target.bytes.data());
  if (move.stale && kinds::is_computable(target.dtype)) {  // tags name places, not values
    change_element(target, *move.stale);
  }
}

}  // namespace

Result<Program> compile(const model::Model& model, const kinds::Catalogue& kinds,
                        const parallel::Layout& layout) {
  BV_TRY(plan, plan::Plan::make(model, kinds, layout));
  Program out;
  out.layout = layout;
  for (std::size_t f = 0; f < plan.files().size(); ++f) {
    out.files.push_back(plan.files()[f].key);
    out.file_names.push_back(plan.files()[f].name);
    for (const plan::Target& target : plan.files()[f].targets) {
      out.moves.push_back(make_move(plan, f, target));
    }
  }
  return out;
}

Image run_import(const Program& right, const Program& program, Tensors& hf, const Fill& fill) {
  Image out;
  out.files.resize(right.files.size());
  const auto make = [&](const Move& move) {
    Tensor tensor;
    tensor.shape = move.shape;
    tensor.dtype = target_dtype(move, hf);
    tensor.bytes.resize(bytes_of(tensor.shape, tensor.dtype));
    fill(tensor, move);
    return tensor;
  };
  for (const Move& move : right.moves) {
    out.files[move.file].emplace(move.name, make(move));
  }
  for (const Move& move : program.moves) {
    if (auto why = refusal(move, hf)) {
      if (!why->missing) {
        out.loud.push_back(fmt::format("{} has shape {}, {} needs {}", why->hf,
                                       shape_text(why->found), why->global_name,
                                       shape_text(why->wanted)));
      }
      out.refusals.push_back(std::move(*why));
      continue;
    }
    Tensors& file = out.files[move.file];
    const auto found = file.find(move.name);
    if (found == file.end() || found->second.shape != move.shape) {
      if (found != file.end()) {
        out.loud.push_back(fmt::format("{} has shape {}, the module needs {}", move.global_name,
                                       shape_text(move.shape), shape_text(found->second.shape)));
      }
      file.insert_or_assign(move.name, make(move));
    } else if (found->second.dtype != target_dtype(move, hf)) {
      found->second = make(move);
    }
    write(move, hf, file.find(move.name)->second);
    out.filled.insert({move.file, move.name});
  }
  return out;
}

namespace {

/// The shard's elements as HF values: as they are, or with the arithmetic undone in `made`.
const std::byte* undone(const Move& move, const Tensor& shard, DType hf_dtype,
                        std::vector<std::byte>& made) {
  if (shard.dtype == hf_dtype && !computes(move, hf_dtype)) {
    return shard.bytes.data();
  }
  const auto from = static_cast<std::size_t>(bytes(shard.dtype));
  const auto to = static_cast<std::size_t>(bytes(hf_dtype));
  made.resize(shard.bytes.size() / from * to);
  for (std::size_t i = 0; i < shard.bytes.size() / from; ++i) {
    std::byte cast[8];
    const DType sum_dtype = move.arithmetic.through.value_or(hf_dtype);
    kinds::store(kinds::load(shard.bytes.data() + i * from, shard.dtype), cast, sum_dtype);
    const double sum = kinds::load(cast, sum_dtype) - move.arithmetic.add;
    kinds::store(sum, cast, sum_dtype);
    kinds::store(kinds::load(cast, sum_dtype) / move.arithmetic.scale, made.data() + i * to,
                 hf_dtype);
  }
  return made.data();
}

/// One mapping on its way back.
class Way {
 public:
  Way(const Image& image, const Headers& headers, std::byte poison, Export& out)
      : image_(image), headers_(headers), poison_(poison), out_(out) {}

  void run(std::span<const Move* const> moves) {
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    const std::int64_t last = last_expert(moves);
    for (const Move* move : moves) {
      if (!seen.insert({move->t, move->expert}).second) {
        continue;  // a replica: the upstream bridge reads the first owner
      }
      const auto found = image_.files[move->file].find(move->name);
      if (found == image_.files[move->file].end()) {
        return;
      }
      if (found->second.shape != move->shape) {
        out_.loud.push_back(fmt::format("{} has shape {}, the export needs {}", move->global_name,
                                        shape_text(found->second.shape), shape_text(move->shape)));
        return;
      }
      if (!move->last_expert_wins || move->expert == last) {
        read(*move, found->second);
      }
    }
    for (auto& [name, tensor] : made_) {
      finish(*moves.front(), tensor);
      out_.tensors.insert_or_assign(name, std::move(tensor));
    }
  }

 private:
  static std::int64_t last_expert(std::span<const Move* const> moves) {
    std::int64_t last = -1;
    for (const Move* move : moves) {
      last = std::max(last, move->expert);
    }
    return last;
  }

  void read(const Move& move, const Tensor& shard) {
    for (std::size_t i = 0; i < move.hf.size(); ++i) {
      const auto header = headers_.find(move.hf[i]);
      if (header == headers_.end()) {
        made_[move.hf[i]] = Tensor{shard.dtype, shard.shape, shard.bytes};
        continue;
      }
      Tensor& target = made_[move.hf[i]];
      if (target.bytes.empty()) {
        target.dtype = header->second.dtype;
        target.shape = move.hf_shapes[i];
        target.bytes.assign(bytes_of(target.shape, target.dtype), poison_);
      }
      std::vector<std::byte> made;
      const std::byte* values = undone(move, shard, target.dtype, made);
      std::vector<layout::Box> back;
      for (const layout::Box& box : move.boxes) {
        if (box.source == static_cast<int>(i)) {
          back.push_back(layout::inverse(box, 0));
        }
      }
      move::make_whole(back, {&values, 1}, static_cast<std::size_t>(bytes(target.dtype)),
                       target.bytes.data());
    }
  }

  void finish(const Move& move, Tensor& tensor) const {
    if (move.last_expert_wins && tensor.shape.size() == 3 && tensor.shape[0] > 1) {
      const std::size_t one = tensor.bytes.size() / static_cast<std::size_t>(tensor.shape[0]);
      tensor.bytes.erase(tensor.bytes.begin(),
                         tensor.bytes.end() - static_cast<std::ptrdiff_t>(one));
      tensor.shape.erase(tensor.shape.begin());
    }
    if (move.squeezes) {
      std::erase(tensor.shape, 1);
    }
  }

  const Image& image_;
  const Headers& headers_;
  std::byte poison_;
  Export& out_;
  Tensors made_;
};

}  // namespace

Export run_export(const Program& program, const Image& image, const Headers& headers,
                  std::byte poison) {
  std::map<std::uint32_t, std::vector<const Move*>> by_mapping;
  for (const bool copies : {false, true}) {
    for (const Move& move : program.moves) {
      if (move.copy == copies) {
        by_mapping[move.mapping].push_back(&move);
      }
    }
  }
  Export out;
  for (const auto& [mapping, moves] : by_mapping) {
    Way(image, headers, poison, out).run(moves);
  }
  return out;
}

std::vector<std::byte> computed(const Move& move, const Tensor& values) {
  Tensor shard{move.arithmetic.cast.value_or(values.dtype), values.shape, values.bytes};
  if (computes(move, values.dtype)) {
    const auto wide = static_cast<std::size_t>(bytes(values.dtype));
    const auto narrow = static_cast<std::size_t>(bytes(shard.dtype));
    const std::size_t count = values.bytes.size() / wide;
    shard.bytes.assign(count * narrow, std::byte{0});
    for (std::size_t i = 0; i < count; ++i) {
      compute(values.bytes.data() + i * wide, values.dtype, shard.bytes.data() + i * narrow,
              shard.dtype, move.arithmetic);
    }
  }
  std::vector<std::byte> made;
  const std::byte* back = undone(move, shard, values.dtype, made);
  std::vector<std::byte> out = shard.bytes;
  out.insert(out.end(), back, back + values.bytes.size());
  return out;
}

}  // namespace bv::mutants
