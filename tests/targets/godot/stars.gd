# A small game loop without a player: every frame some bodies fall, old ones go, and the state of the sky is written to
# text and read back, as a save game or a network packet would be. After 600 frames it prints what it saw and ends.
extends Node2D

const FRAMES = 600
const BIRTHS = 16      # new stars a frame
const SKY = 160        # stars alive at most

var frame = 0
var stars = []
var seen = 0
var checksum = 0

func _ready():
	seed(20)
	Engine.target_fps = 0

func make_star():
	var body = RigidBody2D.new()
	var outline = CollisionShape2D.new()
	var circle = CircleShape2D.new()
	circle.radius = 2 + randi() % 5
	outline.shape = circle
	body.add_child(outline)
	body.name = "star%d" % seen
	body.position = Vector2(randf() * 600, randf() * 80)
	add_child(body)
	stars.append(body)
	seen += 1

func describe_sky():
	var sky = {}
	for i in range(0, stars.size(), 2):
		sky[stars[i].name] = [i, str(frame), stars[i].position.x > 300]
	return JSON.print(sky)

func _process(_delta):
	frame += 1
	OS.delay_usec(500) # what paces a game: the frame boundary that is marked
	for _i in range(BIRTHS):
		make_star()
	while stars.size() > SKY:
		stars.pop_front().queue_free()
	var sky = JSON.parse(describe_sky()).result
	var words = PoolStringArray(sky.keys()).join(" ").split(" ")
	checksum = (checksum * 31 + words.size()) % 1000003
	if frame == FRAMES:
		print("stars ", seen, ", frames ", frame, ", checksum ", checksum)
		get_tree().quit()
