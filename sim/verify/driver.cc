// Plays a stimulus to a design that yosys wrote as C++, once for each mutant.
//
// usage: driver CONFIG STIMULUS TRACE; the results go to standard output, a line for each mutant:
//   mutant FIRST_DIFFERENCE CYCLES PROPERTY:FIRST_CYCLE...
// Signals are sampled when the inputs have settled, before the clock's edge.
#include "design.cc"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <new>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Item {
  uint32_t *words = nullptr;
  size_t width = 0;
  size_t count() const { return (width + 31) / 32; }
};

// The inputs of a stream wait while `valid` is high and `ready` is low. From cycle `paced` on they go on in
// their own row afterwards, until the next reset; before it, with the row of the cycle.
struct Hold {
  size_t valid;
  std::string ready;
  std::vector<size_t> inputs;
};

struct Config {
  std::string clock = "", mutant = "", reset = "";
  int edge = 1, level = 1;
  size_t cycles = 0, mutants = 0, first = 0, properties = 0, paced = size_t(-1);
  bool asynchronous = false;
  size_t enough = 0;  // a mutant that differs and violates one of so many properties is played no longer
  std::vector<std::string> inputs, compared, watched;
  std::vector<Hold> holds;
};

Config read_config(const char *path) {
  Config config;
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string key, name;
    words >> key;
    if (key == "clock") words >> config.clock >> config.edge;
    else if (key == "reset") words >> config.reset >> config.level;
    else if (key == "cycles") words >> config.cycles;
    else if (key == "mutants") words >> config.mutant >> config.first >> config.mutants;
    else if (key == "properties") words >> config.properties;
    else if (key == "paced") words >> config.paced;
    else if (key == "enough") words >> config.enough;
    else if (key == "asynchronous") config.asynchronous = true;
    else if (key == "input") { words >> name; config.inputs.push_back(name); }
    else if (key == "compare") { words >> name; config.compared.push_back(name); }
    else if (key == "watch") { words >> name; config.watched.push_back(name); }
    else if (key == "hold") {
      Hold hold;
      size_t input;
      words >> hold.valid >> hold.ready;
      while (words >> input) hold.inputs.push_back(input);
      config.holds.push_back(hold);
    }
  }
  return config;
}

using Design = cxxrtl_design::p_hwgen__design;

class Bench {
 public:
  Bench() { top_.debug_info(&items_, nullptr, ""); }

  Item item(const std::string &name) {
    if (!items_.count(name)) {
      std::fprintf(stderr, "ERROR: the design has no signal %s\n", name.c_str());
      std::exit(1);
    }
    const auto &found = items_.at(name).at(0);
    if (found.type == CXXRTL_OUTLINE) {
      std::fprintf(stderr, "ERROR: the design computes %s only when asked\n", name.c_str());
      std::exit(1);
    }
    return {found.curr, found.width};
  }

  // As at power-up: its reset() would leave what has no initial value. Made anew in its old place,
  // so that what items_ points to stays.
  void clear() {
    top_.~Design();
    new (&top_) Design();
  }
  void step() { top_.step(); }

 private:
  Design top_;
  cxxrtl::debug_items items_;
};

std::vector<Item> items(Bench &bench, const std::vector<std::string> &names) {
  std::vector<Item> found;
  for (const auto &name : names) found.push_back(bench.item(name));
  return found;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const Config config = read_config(argv[1]);
  Bench bench;
  const Item clock = bench.item(config.clock);
  const auto inputs = items(bench, config.inputs), compared = items(bench, config.compared);
  const auto watched = items(bench, config.watched);
  std::vector<Item> readies;
  for (const auto &hold : config.holds) readies.push_back(bench.item(hold.ready));
  std::vector<long> held_by(inputs.size(), -1);
  for (size_t k = 0; k < config.holds.size(); k++)
    for (size_t input : config.holds[k].inputs) held_by[input] = k;
  Item mutant, bad, reset;
  if (!config.mutant.empty()) mutant = bench.item(config.mutant);
  if (!config.reset.empty()) reset = bench.item(config.reset);
  if (config.properties) bad = bench.item("hwgen_bad");

  size_t row = 0;
  for (const auto &input : inputs) row += input.count();
  std::vector<uint32_t> stimulus(row * config.cycles);
  std::ifstream(argv[2], std::ios::binary)
      .read(reinterpret_cast<char *>(stimulus.data()), stimulus.size() * sizeof(uint32_t));

  std::vector<uint32_t> golden, trace;
  size_t compared_row = 0;
  for (const auto &output : compared) compared_row += output.count();

  for (size_t number = config.first; number <= config.mutants; number++) {
    const bool is_golden = number == 0;
    bench.clear();
    if (mutant.words) mutant.words[0] = number;
    clock.words[0] = !config.edge;
    bench.step();
    long difference = -1;
    std::vector<long> violated(config.properties, -1);
    size_t cycle = 0;
    bool seen = false;
    std::vector<bool> waits(config.holds.size(), false);
    std::vector<size_t> at(config.holds.size(), 0);
    bool was_reset = false;
    for (; cycle < config.cycles; cycle++) {
      std::vector<bool> held(inputs.size(), false);
      for (size_t k = 0; k < config.holds.size(); k++) {
        if (waits[k])
          for (size_t input : config.holds[k].inputs) held[input] = true;
        const bool own = cycle > config.paced && !was_reset;
        at[k] = own ? at[k] + !waits[k] : cycle;
      }
      for (size_t k = 0, word = 0; k < inputs.size(); word += inputs[k++].count()) {
        const long hold = held_by[k];
        if (held[k]) continue;
        const uint32_t *from = &stimulus[(hold < 0 ? cycle : at[hold]) * row + word];
        std::copy(from, from + inputs[k].count(), inputs[k].words);
      }
      // The clock's other edge comes with the new inputs. A second step shows what an asynchronous reset
      // changed in the first.
      clock.words[0] = !config.edge;
      for (int k = 0; k <= config.asynchronous; k++) bench.step();
      const bool in_reset = reset.words && int(reset.words[0]) == config.level;
      was_reset = in_reset;
      for (size_t k = 0; k < config.holds.size(); k++)
        waits[k] = !in_reset && inputs[config.holds[k].valid].words[0] && !readies[k].words[0];
      if (is_golden) {
        for (const auto &output : compared) golden.insert(golden.end(), output.words, output.words + output.count());
        for (const auto &signal : watched) trace.insert(trace.end(), signal.words, signal.words + signal.count());
      } else if (difference < 0) {
        size_t at = cycle * compared_row;
        for (const auto &output : compared)
          for (size_t word = 0; word < output.count(); word++, at++)
            if (output.words[word] != golden[at]) difference = cycle;
      }
      for (size_t k = 0; k < config.properties; k++)
        if (violated[k] < 0 && (bad.words[k / 32] >> (k % 32) & 1)) violated[k] = cycle, seen |= k < config.enough;
      if (difference >= 0 && seen) break;
      clock.words[0] = config.edge;
      bench.step();
    }
    std::printf("%zu %ld %zu", number, difference, cycle);
    for (size_t k = 0; k < config.properties; k++)
      if (violated[k] >= 0) std::printf(" %zu:%ld", k, violated[k]);
    std::printf("\n");
    std::fflush(stdout);
    if (is_golden)
      std::ofstream(argv[3], std::ios::binary)
          .write(reinterpret_cast<const char *>(trace.data()), trace.size() * sizeof(uint32_t));
  }
}
